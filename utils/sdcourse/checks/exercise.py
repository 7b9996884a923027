"""A lab is a row of exercises; each compares a learner's function with a reference on fresh seeded inputs.

A lab module builds one :class:`Lab` called ``check``; the notebook says ``check.gradient_step(gradient_step)``.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable

import torch

from .attempt import call, copies
from .compare import ATOL, RTOL, difference
from .outcome import MARKS, NOT_CHECKED, RIGHT, CheckError, Wrong
from .plain import NotPlain, plain
from .stubs import say_what_is_missing


class Lab:
    """The exercises of one lab, each an attribute, and how far the learner has come with them."""

    def __init__(self, number: str, title: str):
        self.number, self.title = number, title
        self.exercises: dict[str, Exercise] = {}
        self.states: dict[str, str] = {}
        say_what_is_missing()

    def exercise(
        self, reference: Callable, *, mistakes: dict[str, Callable] | None = None, rtol=RTOL, atol=ATOL, without=()
    ):
        """Add the exercise that a function of inputs describes.

        The decorated function takes a :class:`Draws` and yields tuples of arguments; ``reference`` answers them
        rightly, and each function of ``mistakes`` wrongly, in the way its key names in one clause. without: what the
        task forbids (sdcourse.checks.without).
        """

        def add(inputs: Callable[[Draws], Iterable[tuple]]):
            compare = _Comparison(inputs, reference, mistakes or {}, rtol=rtol, atol=atol)
            return self._add(Exercise(inputs.__name__, inputs.__doc__, compare, lab=self, without=without))

        return add

    def effect(self, judge: Callable | None = None, *, without=()):
        """Add an exercise judged by what it brings about; ``without`` as in :meth:`exercise`.

        The decorated function takes ``attempt`` (the learner's function, which returns plain data) and a
        :class:`Draws`; it returns a sentence about a right answer, or None, and raises Wrong otherwise.
        """
        if judge is None:
            return functools.partial(self.effect, without=without)
        return self._add(Exercise(judge.__name__, judge.__doc__, judge, lab=self, without=without))

    def _add(self, exercise: "Exercise") -> "Exercise":
        self.exercises[exercise.name] = exercise
        setattr(self, exercise.name, exercise)
        return exercise

    @property
    def right(self) -> int:
        """How many exercises were right when they were last checked."""
        return sum(state == RIGHT for state in self.states.values())

    def progress(self) -> None:
        """Print how every exercise stood when it was last checked."""
        print(f"Lab {self.number}, {self.title}: {self.right} of {len(self.exercises)} right")
        for name in self.exercises:
            state = self.states.get(name, NOT_CHECKED)
            print(f"  {MARKS[state]} {name}: {state}")


class Exercise:
    """One exercise; call it with the learner's function to check it."""

    def __init__(self, name: str, doc: str | None, judge: Callable, *, lab: Lab, without: tuple[str, ...] = ()):
        self.name, self.__doc__, self.judge, self.lab, self.without = name, doc, judge, lab, without

    def __call__(self, answer, *, seed: int = 0, hidden: bool = False) -> None:
        """Check an answer on the inputs of ``seed``: print that it is right, or raise Wrong or NotAttempted.

        With ``hidden``, a sentence about a wrong answer does not say what the inputs were.
        """
        try:
            said = self._judged(answer, Draws(seed, secret=_SECRET[-1] if hidden else 0))
        except CheckError as error:
            self.lab.states[self.name] = error.status
            text = getattr(error, "hint", None) or "on other inputs it is wrong" if hidden else str(error)
            raise type(error)(f"{self.name}: {text}.") from None
        if hidden:
            return
        self.lab.states[self.name] = RIGHT
        done = f"{self.lab.right} of {len(self.lab.exercises)} right so far"
        print(f"{MARKS[RIGHT]} {self.name}: right{f', {said}' if said else ''}. ({done})")

    def _judged(self, answer, draws: "Draws") -> str | None:
        """Return what there is to say of a right answer; raise CheckError for another, whatever it is."""
        used: set[str] = set()
        try:
            said = self.judge(lambda *arguments: call(answer, *arguments, without=self.without, used=used), draws)
        except (CheckError, KeyboardInterrupt):
            raise
        except (TypeError, ValueError, ArithmeticError, RuntimeError, LookupError, AttributeError) as error:
            raise Wrong(f"what the function returned could not be checked ({type(error).__name__}): it is of another "
                        "kind or size than what is asked for") from error  # fmt: skip
        if used:
            raise Wrong(f"the result is right, but the task asks for it without {sorted(used)[0]}")
        return said


_SECRET = [0]


@contextlib.contextmanager
def use_secret(secret: int):
    """Draw hidden inputs from ``secret`` as well as from their seeds, so that nobody can know them before."""
    _SECRET.append(secret)
    try:
        yield
    finally:
        _SECRET.pop()


class Draws:
    """Random inputs that depend only on the seed (and the secret of a run of grading): shapes, dtypes and values."""

    def __init__(self, seed: int, *, secret: int = 0):
        self.seed = seed
        self.generator = torch.Generator().manual_seed(1000 + seed + secret)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return a standard normal tensor."""
        return torch.randn(shape, generator=self.generator).to(dtype)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number between ``low`` and ``high``, rounded to 4 digits so that it prints as what it is."""
        return float(f"{low + (high - low) * torch.rand((), generator=self.generator).item():.4g}")

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, items):
        """Return one of ``items``."""
        return items[self.integer(0, len(items) - 1)]


class _Comparison:
    """Judge an answer by a reference on a row of inputs, and name the mistake that explains what it returned."""

    def __init__(self, inputs, reference, mistakes, *, rtol, atol):
        self.inputs, self.reference, self.mistakes = inputs, reference, mistakes
        self.tolerances = {"rtol": rtol, "atol": atol}

    def __call__(self, attempt, draws: Draws) -> None:
        tried = []
        for arguments in self.inputs(draws):
            expected, actual = answered(self.reference, arguments), attempt(*arguments)
            tried.append((arguments, actual, difference(actual, expected, **self.tolerances)))
        wrong = next(((arguments, said) for arguments, _, said in tried if said), None)
        if not wrong:
            return
        error = Wrong(f"{describe(self.reference, wrong[0])}{wrong[1]}")
        if hint := self.hint(tried):
            error = Wrong(f"{hint} ({wrong[1]})")
            error.hint = hint
        raise error

    def hint(self, tried) -> str | None:
        """Return the first mistake that explains everything the answer returned."""
        explained = (hint for hint, mistake in self.mistakes.items() if all(self._explains(mistake, *t) for t in tried))
        return next(explained, None)

    def _explains(self, mistake, arguments, actual, said) -> bool:
        try:
            return difference(actual, answered(mistake, arguments), **self.tolerances) is None
        except Exception:  # a mistake need not work on every input; where the answer was right, it need not explain it
            return said is None


def answered(function: Callable, arguments: tuple):
    """Return the plain result of one of our own functions on copies of ``arguments``."""
    with torch.random.fork_rng(devices=[]):
        try:
            return plain(function(*copies(arguments)))
        except NotPlain as error:
            raise TypeError(f"{function.__name__} returned {error}") from None


def describe(function: Callable, arguments: tuple) -> str:
    """Return "for learning_rate = 0.1 and step = 3: ", with the names of the function, as far as it is short."""
    names = inspect.signature(function).parameters
    pairs = [f"{name} = {text}" for name, argument in zip(names, arguments, strict=False) if (text := _short(argument))]
    return f"for {', '.join(pairs[:-1])}{' and ' if pairs[1:] else ''}{pairs[-1]}: " if pairs else ""


def _short(value) -> str:
    """Return a short text for an argument, or nothing if there is none."""
    if isinstance(value, torch.Tensor) and value.numel() > 1:
        return f"a tensor {list(value.shape)}"
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return f"{value.item():.4g}"
    text = repr(value) if isinstance(value, bool | int | float | str | list | tuple) else ""
    return text if len(text) <= 60 else ""
