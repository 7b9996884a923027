"""Call a learner's function on copies of its arguments and turn whatever happens into plain data or one sentence."""

import contextlib
import copy
import functools
import inspect
import linecache
import traceback

import numpy as np
import torch

from .outcome import NotAttempted, Wrong
from .plain import NotPlain, plain
from .without import watched


class Pocket:
    """Stands for the pocket model among the arguments of an answer: each process loads its own, once."""

    def resolve(self):
        """Return the loaded pipeline."""
        return _pocket()


@functools.cache
def _pocket():
    from sdlab import load_pipeline

    return load_pipeline("pocket", device="cpu")


class Remote:
    """An answer that lives in another process (see sdcourse.grading): ``call`` does there what ``call_here`` does."""

    def call(self, arguments: tuple, *, without: tuple[str, ...], used: set):
        """Return the plain result of calling the answer; raise Wrong or NotAttempted. As :func:`call_here`."""
        raise NotImplementedError


def call(answer, *arguments, without: tuple[str, ...] = (), used: set | None = None):
    """Return the plain result of ``answer(*arguments)``, here or where it lives; raise Wrong or NotAttempted."""
    used = set() if used is None else used
    return (answer.call if isinstance(answer, Remote) else functools.partial(call_here, answer))(
        arguments, without=without, used=used
    )


def call_here(answer, arguments: tuple, *, without: tuple[str, ...] = (), used: set | None = None):
    """Call ``answer`` on copies of ``arguments``, quietly, and return its result as plain data.

    Raises NotAttempted for a stub, and Wrong, with one sentence, if it is no function, takes other arguments,
    raises, changes its arguments in place, or returns what is not plain data. What it uses of ``without`` is added to
    ``used``.
    """
    if answer is Ellipsis:
        raise NotAttempted("not attempted yet")
    if not callable(answer):
        raise Wrong(f"give the check your function itself, not {type(answer).__name__}")
    given = copies(arguments)
    with torch.random.fork_rng(devices=[]), watched(answer, without, set() if used is None else used):
        result = _result_of(answer, given)
    for place, (before, after) in enumerate(zip(arguments, given, strict=True), start=1):
        if changed(before, after):
            raise Wrong(f"the function changes its argument number {place} in place: work on a copy")
    try:
        return plain(result)
    except NotPlain as error:
        kinds = "plain numbers, strings, tensors, or lists or dictionaries of these"
        raise Wrong(f"the function returned {error}; return {kinds}") from None


def copies(arguments: tuple) -> list:
    """Return what a function is really called with: a copy of each argument, the loaded pipeline for a Pocket."""
    return [argument.resolve() if isinstance(argument, Pocket) else copy.deepcopy(argument) for argument in arguments]


def _result_of(answer, given: list):
    """Return what the answer returns; turn what it raises into one sentence."""
    try:
        inspect.signature(answer).bind(*given)
    except TypeError as error:
        raise Wrong(f"the function cannot be called with the {len(given)} arguments of the task: {error}") from None
    except ValueError:
        pass  # a builtin tells no signature
    try:
        with contextlib.redirect_stdout(None):
            return answer(*given)
    except NotImplementedError as error:
        if type(error) is NotImplementedError:
            raise NotAttempted("not attempted yet") from None
        raise Wrong(f"the function stopped with {_clause(error)}") from None
    except RecursionError:
        raise Wrong("the function calls itself without end") from None
    except Exception as error:
        raise Wrong(f"the function stopped with {_clause(error)}") from None


def _clause(error: Exception) -> str:
    """Return an exception and the learner's line that raised it as one clause."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else f"{text[:197]}..."
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "ipython-input" in frame.filename or "ipykernel" in frame.filename or frame.filename.startswith("<")
    ]
    line = (frames[-1].line or linecache.getline(frames[-1].filename, frames[-1].lineno or 0)).strip() if frames else ""
    return f"{type(error).__name__}: {text}" + (f" (in the line: {line})" if line else "")


def changed(before, after) -> bool:
    """Say whether a tensor, an array, or what is in a list or dictionary, is no longer what it was."""
    if isinstance(before, torch.Tensor):
        same = before.shape == after.shape and before.dtype == after.dtype
        return not (same and torch.equal(before.detach().nan_to_num(), after.detach().nan_to_num()))
    if isinstance(before, np.ndarray):
        return not np.array_equal(before, after)
    if isinstance(before, list | tuple):
        return len(before) != len(after) or any(map(changed, before, after))
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(changed(before[key], after[key]) for key in before)
    if isinstance(before, bool | int | float | str | None):
        return type(before) is not type(after) or (before != after and before == before)  # nan is not equal to itself
    return False
