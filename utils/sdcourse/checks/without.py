"""Notice what a task forbids: a loop, autograd, the library's own pipeline, a scheduler, a module that is built.

Loops are looked for in the code of the answer; calls are noticed while it runs. A learner who wants to can get round
it; one who forgot what the task says is told at once.
"""

import contextlib
import dis
import inspect
import sys
import types
from collections.abc import Callable

LOOP, AUTOGRAD, PIPELINE, SCHEDULER, MODULE, SOFTMAX = (
    "a loop", "autograd", "the library's pipeline", "a scheduler of the library", "building the module", "a softmax"
)  # fmt: skip


def _autograd(code, name) -> bool:
    names = ("grad", "backward", "vjp", "jvp", "jacobian", "hessian", "jacrev", "jacfwd", "grad_impl")
    places = ("torch/autograd/", "torch/_functorch/", "torch/_tensor.py")
    return name in names and any(_module(code, place) for place in places)


def _pipeline(code, name) -> bool:
    return name == "__call__" and _module(code, "diffusers/pipelines/")


def _scheduler(code, name) -> bool:
    return name in ("step", "add_noise", "set_timesteps", "get_velocity") and _module(code, "diffusers/schedulers/")


def _built(code, name) -> bool:
    return name == "__init__" and code.co_filename.replace("\\", "/").endswith("torch/nn/modules/module.py")


def _module(code, part: str) -> bool:
    return part in code.co_filename.replace("\\", "/")


CALLS: dict[str, Callable] = {AUTOGRAD: _autograd, PIPELINE: _pipeline, SCHEDULER: _scheduler, MODULE: _built}
BUILTINS = {SOFTMAX: {"softmax", "log_softmax", "logsumexp"}, AUTOGRAD: {"requires_grad_"}}


@contextlib.contextmanager
def watched(answer, without: tuple[str, ...], used: set):
    """Add to ``used`` which of ``without`` the answer uses in the block."""
    used |= {LOOP} if LOOP in without and has_loop(answer) else set()
    kinds = [kind for kind in without if kind in CALLS or kind in BUILTINS]
    if not kinds:
        yield
        return

    def notice(frame, event, argument):
        for kind in kinds:
            called = event == "call" and kind in CALLS and CALLS[kind](frame.f_code, frame.f_code.co_name)
            if called or (event == "c_call" and getattr(argument, "__name__", "") in BUILTINS.get(kind, ())):
                used.add(kind)

    before = sys.getprofile()
    sys.setprofile(notice)
    try:
        yield
    finally:
        sys.setprofile(before)


def has_loop(function) -> bool:
    """Say whether a function of Python goes round in its own code, or in a function written in it."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    return code is not None and any(map(_goes_round, _codes(code)))


def _codes(code: types.CodeType):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _goes_round(code: types.CodeType) -> bool:
    back = ("FOR_ITER", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
    return any(step.opname.startswith(back) for step in dis.get_instructions(code))
