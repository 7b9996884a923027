"""Grade one notebook: its cells run in a process of their own, the checks run here, where they cannot be tampered with.

A check cell is run by the grader; the names of the learner's functions in it stand for functions in the learner's
process, which are called with plain data and answer with plain data.
"""

import ast
import builtins
import contextlib
import importlib
import io
import time
from dataclasses import asdict, dataclass, field

from ..checks.exercise import use_secret
from ..checks.outcome import MARKS, NOT_ATTEMPTED, RIGHT, WRONG, CheckError, NotAttempted, Wrong
from .kernel import LearnerFunction, LearnerKernel, Limits, Place, Stopped, clean_text
from .submission import Part

STOPPED, BY_A_PERSON = "stopped", "to be marked by a person"


@dataclass
class Question:
    """What one check or essay of a lab came to. score is None where a person has to mark it."""

    name: str
    score: float | None
    points: float
    status: str
    line: str


@dataclass
class Result:
    """What a submission came to: its questions, a sentence for each thing to know, and the seconds it took."""

    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    own_seconds: float = 0.0

    @property
    def score(self) -> float:
        """The points given by the checks."""
        return sum(question.score or 0 for question in self.questions)

    def to_dict(self) -> dict:
        """Return the result as plain data."""
        return asdict(self)


def grade(parts: list[Part], *, lab: str, limits: Limits, place: Place | None = None, secret: int = 0) -> Result:
    """Run and grade the cells of one notebook; their outputs are kept in ``parts``.

    lab: the lab's number, "01". place: where the notebook runs. secret: what hidden inputs are drawn from, beside their
    seeds. Nothing the notebook does raises an error here: it costs the questions it touches, and the result says so.
    Raises NotStarted where no room or no kernel is to be had.
    """
    start = time.monotonic()
    check = importlib.import_module(f"sdcourse.checks.lab_{lab}").check
    with use_secret(secret), LearnerKernel(limits=limits, place=place or Place()) as kernel:
        run = _Run(parts, kernel, check)
        kernel.start()  # one that cannot be started says nothing about the notebook
        run.running = True
        for index, part in enumerate(parts):
            run.take(index, part)
        run.check_again()
    run.result.seconds = time.monotonic() - start
    run.result.own_seconds = run.own_seconds
    return run.result


class _Run:
    """The state of grading one notebook from its first cell to its last."""

    def __init__(self, parts: list[Part], kernel: LearnerKernel, check):
        self.parts, self.kernel, self.check = parts, kernel, check
        self.result = Result()
        self.broken: dict[int, str] = {}  # cells that stopped the process, and why: not run again
        self.errors: dict[str, str] = {}  # answers whose cell raised an error
        self.bad_names: set[str] = set()  # functions that stopped the process: the lab's cells that use them are left out
        self.running = False
        self.own_seconds = 0.0

    def take(self, index: int, part: Part) -> None:
        """Run one cell, or check it, or note that a person has to read it."""
        if part.role == "check":
            self.result.questions.append(self._checked(index, part))
        elif part.role == "essay":
            self.result.questions.append(self._essay(part))
        elif part.cell_type == "code" and not self._left_out(part):
            self._run(index, part)

    def _left_out(self, part: Part) -> bool:
        """Say whether a cell of the lab uses what stopped the process; what it would define is then missing, too."""
        if part.role != "shown" or not self.bad_names & names_in(part.source):
            return False
        self.bad_names |= names_in(part.source, stored=True)
        return True

    def _essay(self, part: Part) -> Question:
        empty = part.source.strip() in ("", "*Write here, instead of this line.*")
        if empty:
            return Question(part.name, 0.0, part.points, NOT_ATTEMPTED, "not attempted yet.")
        return Question(part.name, None, part.points, BY_A_PERSON, "to be marked by a person.")

    def _run(self, index: int, part: Part) -> None:
        start = time.monotonic()
        try:
            self._ready(index)
            part.outputs = self.kernel.run(part.source)
        except Stopped as stopped:
            self._lost(index, part, str(stopped))
            return
        finally:
            self.own_seconds += time.monotonic() - start
        errors = [output for output in part.outputs if output["output_type"] == "error"]
        if errors and part.role == "answer":
            said = " ".join(errors[0]["evalue"].split())[:200]
            self.errors[part.name] = f"{errors[0]['ename']}: {said}" if said else errors[0]["ename"]

    def _lost(self, index: int, part: Part, reason: str) -> None:
        """Remember a cell that stopped the process, so that it is not run again."""
        self.running = False
        part.outputs = [{"output_type": "stream", "name": "stderr", "text": f"Stopped: {reason}.\n"}]
        if self.kernel.over:
            return self._note(reason)
        self.broken[index] = reason
        self.bad_names |= names_in(part.source, stored=True)
        if part.role == "answer":
            self.errors[part.name] = reason
        whose = {"answer": f"the cell of {part.name}", "own": "a cell of the learner's own"}.get(part.role, "a cell of the lab")
        return self._note(f"{whose} was stopped ({_first_line(part.source)}): {reason}")

    def _note(self, note: str) -> None:
        if note not in self.result.notes:
            self.result.notes.append(note)

    def _ready(self, index: int) -> None:
        """Start a process where there is none, and run again what stood before, except what stopped one."""
        while not self.running:
            self.kernel.start()
            self.running = True
            for before in range(index):
                part = self.parts[before]
                if not self._again(before, part):
                    continue
                try:
                    self.kernel.run(part.source)
                except Stopped as stopped:
                    self._lost(before, part, str(stopped))
                    break

    def _again(self, index: int, part: Part) -> bool:
        """Say whether a cell has to be run again in a new process: of the lab's own ones, those that define names."""
        if part.cell_type != "code" or index in self.broken:
            return False
        if part.role == "shown":
            return bool(names_in(part.source, stored=True)) and not self._left_out(part)
        return part.role in ("set-up", "answer", "own")

    def _checked(self, index: int, part: Part) -> Question:
        """Run a check cell here; whatever comes out of it is one line and a score."""
        shown = io.StringIO()
        status, name = RIGHT, part.name.removeprefix("check-")
        try:
            start = time.monotonic()
            self._ready(index)
            self.own_seconds += time.monotonic() - start
            names = self._names(part.source)
            with contextlib.redirect_stdout(shown):
                exec(compile(part.source, f"<{part.name}>", "exec"), names)
            line = shown.getvalue().strip().splitlines()[0] if shown.getvalue().strip() else f"{MARKS[RIGHT]} right."
            line = line.split(" (")[0].removeprefix(f"{MARKS[RIGHT]} ")
        except CheckError as error:
            status, line = error.status, str(error)
        except Stopped as stopped:
            self.running, status = False, STOPPED
            self.bad_names |= names_in(part.visible) - {"check"}
            line = f"{name}: stopped, {stopped}."
        except AssertionError as error:
            status, line = WRONG, f"{name}: {error or 'wrong'}."
        except Exception as error:  # the check itself could not take what came: this question is lost, no other
            status, line = WRONG, f"{name}: what came back could not be checked ({type(error).__name__})."
            self._note(f"the check of {name} stopped with {type(error).__name__}: {' '.join(str(error).split())[:200]}; "
                       "look at this answer by hand")  # fmt: skip
        line = clean_text(" ".join(line.split()))
        mark = MARKS.get(status, MARKS[WRONG])
        part.outputs = [{"output_type": "stream", "name": "stdout", "text": f"{mark} {line}\n"}]
        return Question(part.name, part.points if status == RIGHT else 0.0, part.points, status, line)

    def check_again(self) -> None:
        """Check once more what lacked a name that a cell further down may have given it."""
        for place, question in enumerate(self.result.questions):
            if question.status != WRONG or "NameError" not in question.line or self.kernel.over:
                continue
            index = next(i for i, part in enumerate(self.parts) if part.name == question.name)
            before = self.parts[index].outputs
            again = self._checked(len(self.parts), self.parts[index])
            if again.status == RIGHT:
                self.result.questions[place] = again
                self._note(f"{question.name.removeprefix('check-')} needs a cell that stands below its check")
            else:
                self.parts[index].outputs = before

    def _names(self, source: str) -> dict:
        """Return the names for a check cell: our own, and the learner's as functions to call or plain data."""
        import numpy
        import torch

        names = {"__builtins__": builtins, "check": self.check, "torch": torch, "np": numpy}
        found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
        stored = {node.id for node in found if isinstance(node.ctx, ast.Store)}
        for name in dict.fromkeys(node.id for node in found):
            if name not in names and name not in stored and not hasattr(builtins, name):
                names[name] = self._learners(name)
        return names

    def _learners(self, name: str):
        kind, value = self.kernel.look_up(name)
        if kind == "function":
            return LearnerFunction(self.kernel, name)
        if kind == "data":
            return value
        if kind == "other":
            raise Wrong(f"{name}: expected a function or plain data, got {value}.")
        if name in self.errors:
            raise Wrong(f"{name}: its cell stopped: {self.errors[name]}.")
        raise NotAttempted(f"{name}: not attempted yet.")


def names_in(source: str, *, stored: bool = False) -> set[str]:
    """Return the names that a cell uses, or those that it defines; none if it cannot be read (magics apart)."""
    lines = (line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = {node.id for node in ast.walk(tree)
             if isinstance(node, ast.Name) and (not stored or isinstance(node.ctx, ast.Store))}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def _first_line(source: str) -> str:
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return f"it begins with: {lines[0][:60]}" if lines else "it is empty"
