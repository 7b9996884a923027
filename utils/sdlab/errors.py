"""The one exception of the package: a sentence that says what came in and what to do. And ``context``, a with block."""

from contextlib import _GeneratorContextManager
from functools import wraps


class SdlabError(Exception):
    """Say in one clear sentence what went wrong and what to do about it.

    In a notebook only that sentence is shown; the command line prints it and exits with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython (7.34 and later) shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class _Once(_GeneratorContextManager):
    def __enter__(self):
        if not hasattr(self, "args"):
            raise SdlabError("This with block was opened before: call its function anew for each with.")
        return super().__enter__()


def context(function):
    """Make a context manager of a generator function, as contextlib's; one that is entered twice says so."""
    return wraps(function)(lambda *args, **kwargs: _Once(function, args, kwargs))
