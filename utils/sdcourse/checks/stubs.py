"""In a notebook, a stub that is called says in one line that it is not written yet, instead of a traceback."""

import sys
import traceback

from .outcome import MARKS, NOT_ATTEMPTED


def say_what_is_missing() -> None:
    """Tell IPython, if this runs in it, how to show the ``NotImplementedError`` of a lab's stub."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        shell.set_custom_exc((NotImplementedError,), _show)


def _show(shell, etype, value, tb, tb_offset=None) -> None:
    """Print which function is not written yet; show anything that is not a stub as usual."""
    last = traceback.extract_tb(tb)[-1]
    if etype is not NotImplementedError or last.line != "raise NotImplementedError":
        shell.showtraceback((etype, value, tb), tb_offset=tb_offset)
        return
    name = "this cell" if last.name.startswith("<") else last.name
    print(f"{MARKS[NOT_ATTEMPTED]} {name}: {NOT_ATTEMPTED} yet.")
