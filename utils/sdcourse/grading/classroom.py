"""Grade a class: several submissions at once, whatever they are, and go on after an interruption. Nothing is lost."""

import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil

from sdlab import SdlabError

from .collect import Submission, find_submissions, read_beside, unpacked
from .kernel import Limits, NotStarted, Place, clean_text
from .sandbox import ROOMS
from .submission import Rejected, key_of, put_together, read_notebook, recognise

__all__ = ["Classroom", "Row", "Submission", "Task", "find_submissions", "grade_one", "unpacked", "write_csv"]
TRIES = 2  # a submission that twice brought a grader down is left out


@dataclass
class Row:
    """One line of the result: who, which file, which lab, what it came to."""

    student: str
    file: str
    lab: str = ""
    status: str = ""
    questions: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    own_seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """What one process needs to grade one submission.

    hidden: folders that must not be seen from the room. room: its name (by default the best that can be built).
    trust: grade without a room where there is none. secret: what hidden inputs are drawn from.
    """

    submission: Submission
    course: Path
    lab: str | None
    limits: Limits
    feedback: Path | None
    hidden: tuple[Path, ...] = ()
    room: str | None = None
    trust: bool = False
    secret: int = 0


def grade_one(task: Task) -> Row:
    """Grade one submission; whatever is wrong with it becomes part of the row."""
    row = Row(task.submission.student, task.submission.shown, lab=task.lab or "")
    try:
        if task.submission.problem:
            raise Rejected(task.submission.problem)
        sources = _sources(task.course)
        notebook = read_notebook(task.submission.file)
        lab = recognise(notebook, sources)
        row.lab = task.lab or lab or ""
        if lab is None:
            raise Rejected("no answer of any lab is in this notebook: ask which file was meant")
        if task.lab and lab != task.lab:
            raise Rejected(f"this is {lab}, and {task.lab} was asked for")
        parts, row.notes = put_together(notebook, sources[lab], _stubs(task.course, lab))
        _grade_parts(task, row, parts)
    except Rejected as rejected:
        row.status = f"not graded: {rejected}"
    except NotStarted as problem:
        row.status = f"not graded: {problem}"
    except (Exception, RecursionError) as error:  # one submission must not stop the others
        row.status = f"not graded: the grader stopped with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return _clean_row(row)


def _clean_row(row: Row) -> Row:
    """Return the row with no text in it that cannot be written."""
    return Row(**json.loads(clean_text(json.dumps(asdict(row), ensure_ascii=False))))


def _grade_parts(task: Task, row: Row, parts) -> None:
    from .feedback import write_feedback
    from .grade import grade

    files, left_out = read_beside(task.submission)
    place = Place(ROOMS.get(task.room), task.trust, task.hidden, files, _given(task.course, row.lab))
    result = grade(parts, lab=row.lab[:2], limits=task.limits, place=place, secret=task.secret)
    row.questions = [asdict(question) for question in result.questions]
    row.notes += left_out + result.notes
    row.seconds, row.own_seconds = result.seconds, result.own_seconds
    row.status = "graded"
    if task.feedback:
        result.notes = row.notes
        try:
            write_feedback(parts, result, title=f"{row.lab}: {row.student}", file=task.feedback / task.submission.page)
        except Exception as error:  # the points stand, with or without a page
            row.notes.append(f"the page could not be written ({type(error).__name__}: {str(error)[:100]})")


@functools.cache  # a process grades many submissions
def _sources(course: Path) -> dict:
    from .labs import lab_names

    return {name: read_notebook(course / "solutions" / name / f"{name}.ipynb") for name in lab_names(course)}


@functools.cache
def _given(course: Path, name: str) -> str:
    return "\n\n".join(cell.source for cell in read_notebook(course / "labs" / name / f"{name}.ipynb").cells)


@functools.cache
def _stubs(course: Path, name: str) -> dict[str, str]:
    lab = read_notebook(course / "labs" / name / f"{name}.ipynb")
    return {key_of(cell): cell.source for cell in lab.cells if key_of(cell)}


class Classroom:
    """All submissions of one run, their rows, and what is already done.

    store: a folder in which each row is kept as soon as it is there; :meth:`finish` removes it, and nothing else does.
    """

    def __init__(self, tasks: list[Task], *, store: Path, workers: int | None = None):
        self.tasks, self.store = tasks, store
        self.workers = workers or max(1, min(os.cpu_count() or 1, len(tasks)))
        self.rows: dict[int, Row] = {}
        self.unkept = ""  # why rows could not be kept, if they could not
        self.solutions = {course: _solutions_hash(course) for course in {task.course for task in tasks}}
        self.keys = [self._key(task) for task in tasks]

    def run(self, progress: Callable[[int, int, Row | None], None] = lambda done, total, row: None) -> list[Row]:
        """Grade what is not yet graded; return a row for each submission, in their order.

        progress: called with the numbers done and in all, and the row that has just come.
        """
        self.store.mkdir(parents=True, exist_ok=True)
        for number in range(len(self.tasks)):
            if (row := self._stored(number)) is not None:
                self.rows[number] = row
        progress(len(self.rows), len(self.tasks), None)
        tries = dict.fromkeys(range(len(self.tasks)), 0)
        while left := [number for number in tries if number not in self.rows]:
            alone = any(tries[number] for number in left)  # after a crash, one at a time, so that the cause is known
            self._round(left[:1] if alone else left, tries, progress)
        return [self.rows[number] for number in range(len(self.tasks))]

    def finish(self) -> None:
        """Remove what was kept: the table stands."""
        shutil.rmtree(self.store, ignore_errors=True)

    def _round(self, left: list[int], tries: dict[int, int], progress) -> None:
        with ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_quiet, initargs=(os.getpid(),)) as pool:
            futures = {pool.submit(grade_one, self.tasks[number]): number for number in left}
            try:
                for future in as_completed(futures):
                    self._keep(futures[future], future.result(), progress)
            except BrokenProcessPool:
                for number in left:
                    tries[number] += number not in self.rows
                    if number not in self.rows and tries[number] >= TRIES and len(left) == 1:
                        row = Row(self.tasks[number].submission.student, self.tasks[number].submission.shown)
                        row.status = "not graded: it brought the grader down twice; look at it by hand"
                        self._keep(number, row, progress)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                _end_children()
                raise

    def _keep(self, number: int, row: Row, progress) -> None:
        self.rows[number] = row
        file = self.store / f"{self.keys[number]}.json"
        try:
            file.with_suffix(".new").write_text(json.dumps(asdict(row)))
            file.with_suffix(".new").replace(file)
        except OSError as error:  # a full disk: the row is still here, and goes into the table
            self.unkept = error.strerror or type(error).__name__
        progress(len(self.rows), len(self.tasks), row)

    def _stored(self, number: int) -> Row | None:
        try:
            row = Row(**json.loads((self.store / f"{self.keys[number]}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return row if row.status == "graded" else None  # what was not graded is tried again

    def _key(self, task: Task) -> str:
        """Return a name for a submission as it is now, so that a changed one is graded again."""
        one = task.submission
        about = (one.shown, one.student, task.lab, task.limits, task.feedback, task.room, task.trust, task.secret)
        data = [repr(about).encode("utf-8", "replace"), self.solutions[task.course]]
        for file in (one.file, *one.beside.values()):
            with contextlib.suppress(OSError):  # it has vanished: its row will say so
                data.append(file.read_bytes())
        return hashlib.sha256(b"|".join(data)).hexdigest()[:32]


def _end_children() -> None:
    """End the graders and their rooms."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


@contextlib.contextmanager
def locked(store: Path):
    """Keep a second run from using the same folder of kept rows; raise SdlabError where one does."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        file = (store / "lock").open("w")
    except OSError as error:
        raise SdlabError(f"{store} cannot be written ({error.strerror}): give another place with --out.") from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # there are no such locks on Windows
        except OSError:
            raise SdlabError(f"Another run is grading into {store}: wait for it, or give another --out.") from None
        yield


def secret_of(store: Path, wanted: int | None = None) -> int:
    """Return the secret that the hidden inputs of this run come from: as given, as kept from before, or a new one."""
    file = store / "secret"
    if wanted is None and file.is_file():
        with contextlib.suppress(ValueError, OSError):
            return int(file.read_text())
    secret = secrets.randbelow(2**40) if wanted is None else wanted
    file.write_text(str(secret))
    return secret


def _solutions_hash(course: Path) -> bytes:
    """Return a hash of all solutions: when one changes, its submissions are graded again."""
    files = sorted((course / "solutions").glob("*/*.ipynb"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


def _quiet(parent: int) -> None:
    """Set up a grading process: one thread, no warnings of libraries among the results, and an end with its parent's."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if sys.platform.startswith("linux"):
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed parent takes its graders along
        if os.getppid() != parent:
            os._exit(1)


def write_csv(rows: list[Row], file: Path) -> None:
    """Write a line for each row: who, which lab, points, a column for each question, and what there is to know.

    The file is written beside its place and moved there, with the mark that tells a spreadsheet that it is UTF-8; a text
    that a spreadsheet would take for a formula gets an apostrophe. Raises SdlabError if it cannot be written.
    """
    names = list(dict.fromkeys(question["name"] for row in rows for question in row.questions))
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["student", "file", "lab", "score", "points", "to mark", *names, "status", "notes", "seconds"])
    for row in rows:
        questions = {question["name"]: question for question in row.questions}
        scores = [_number(questions[name]["score"]) if name in questions else "" for name in names]
        writer.writerow([_text(row.student), _text(row.file), row.lab, *_totals(row), *scores, _text(row.status),
                         _text(_notes(row)), f"{row.seconds:.1f}"])  # fmt: skip
    write_whole(out.getvalue(), file)


def write_whole(text: str, file: Path) -> None:
    """Write a text file, whole or not at all; raise SdlabError if it cannot be written."""
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(clean_text(text), encoding="utf-8-sig", newline="")
        new.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise SdlabError(f"{file} could not be written ({error.strerror or type(error).__name__}).") from None


def _text(value: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.lstrip(" \t\r\n").startswith(("=", "+", "-", "@")) or (value[:1] in "\t\r" and value) else value


def _totals(row: Row) -> list[str]:
    points = sum(question["points"] for question in row.questions)
    to_mark = sum(question["points"] for question in row.questions if question["score"] is None)
    return [_number(sum(question["score"] or 0 for question in row.questions)), _number(points), _number(to_mark)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _notes(row: Row) -> str:
    wrong = [question["line"] for question in row.questions if question["score"] == 0]
    return "; ".join([*row.notes, *wrong])
