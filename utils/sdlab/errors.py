"""The one exception of the package: a sentence that says what came in and what to do."""



class SdlabError(Exception):
    """Say in one clear sentence what went wrong and what to do about it.

    In a notebook only that sentence is shown; the command line prints it and exits with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython (7.34 and later) shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]
