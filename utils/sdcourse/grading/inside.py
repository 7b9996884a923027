"""The grader's hand in a learner's process: look a name up, call a function, write down what it returned.

Nothing that happens here is trusted: the grader only reads plain data back (sdcourse.grading.wire).
"""

import pickle
from pathlib import Path

from ..checks import CheckError
from ..checks.attempt import call_here
from ..checks.plain import NotPlain, plain
from .wire import encode


def look_up(name: str, reply: str) -> None:
    """Write to the file ``reply`` what the notebook's name ``name`` is: missing, a function, plain data or other."""
    from IPython import get_ipython

    names = get_ipython().user_ns
    if name not in names:
        return _write(reply, {"kind": "missing"})
    if callable(names[name]):
        return _write(reply, {"kind": "function"})
    try:
        return _write(reply, {"kind": "data", "value": plain(names[name])})
    except NotPlain as error:
        return _write(reply, {"kind": "other", "text": str(error)})


def call_answer(name: str, request: str, reply: str) -> None:
    """Call the notebook's function ``name`` with the arguments in ``request``; write what it returns to ``reply``."""
    from IPython import get_ipython

    arguments = pickle.loads(Path(request).read_bytes())  # written by the grader, for us
    try:
        value = call_here(get_ipython().user_ns[name], arguments)
        _write(reply, {"status": "ok", "value": value})
    except CheckError as error:
        _write(reply, {"status": error.status, "text": str(error)})


def _write(file: str, message: dict) -> None:
    Path(file).write_bytes(encode(message))
