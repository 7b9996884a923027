"""Grade a folder (or zip) of submissions: several at once, whatever they are, and go on after an interruption."""

import contextlib
import csv
import functools
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from sdlab import SdlabError

from .kernel import Limits
from .submission import Rejected, key_of, put_together, read_notebook, recognise

IGNORED = {".ipynb_checkpoints", "__MACOSX", "__pycache__"}
TRIES = 2  # a submission that twice brought a grader down is left out
MAX_UNPACKED = 2 * 2**30


@dataclass(frozen=True)
class Submission:
    """One file that was handed in, and by whom."""

    student: str
    file: Path
    shown: str


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
    """What one process needs to grade one submission."""

    submission: Submission
    course: Path
    lab: str | None
    limits: Limits
    feedback: Path | None
    hidden: tuple[Path, ...] = ()


def find_submissions(folder: Path) -> list[Submission]:
    """Return the files below ``folder``, each with the name of its student.

    The student is the first folder below ``folder`` that the file is in, or the file's own name if it is in none.
    """
    found = []
    for file in sorted(folder.rglob("*")):
        below = file.relative_to(folder)
        hidden = any(part in IGNORED or part.startswith(".") for part in below.parts)
        if file.is_file() and not file.is_symlink() and not hidden and not _is_stamp(file):
            found.append(Submission(below.parts[0] if len(below.parts) > 1 else file.stem, file, str(below)))
    if not found:
        raise SdlabError(f"No submission in {folder}: expected notebooks, one folder a student or one file each.")
    return found


def _is_stamp(file: Path) -> bool:
    return file.name == "timestamp.txt"  # nbgrader's own note of the time


@contextlib.contextmanager
def unpacked(path: Path):
    """Give the folder of submissions: ``path`` itself, or what is in it if it is a zip."""
    if path.is_dir():
        yield path
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise SdlabError(f"{path} is neither a folder nor a zip file: give what the submissions are in.")
    with tempfile.TemporaryDirectory(prefix="submissions-") as folder:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
            if size > MAX_UNPACKED:
                raise SdlabError(f"{path} unpacks to {size / 1e9:.1f} GB: unpack it by hand and look what is in it.")
            archive.extractall(folder)  # does not leave the folder, whatever the names in it
        yield Path(folder)


def grade_one(task: Task) -> Row:
    """Grade one submission; whatever is wrong with it becomes part of the row."""
    row = Row(task.submission.student, task.submission.shown, lab=task.lab or "")
    try:
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
    except Exception as error:  # one submission must not stop the others
        row.status = f"not graded: the grader stopped with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return row


def _grade_parts(task: Task, row: Row, parts) -> None:
    from .feedback import write_feedback
    from .grade import grade

    result = grade(parts, lab=row.lab[:2], limits=task.limits, hidden=list(task.hidden))
    row.questions = [asdict(question) for question in result.questions]
    row.notes += result.notes
    row.seconds, row.own_seconds = result.seconds, result.own_seconds
    row.status = "graded"
    if task.feedback:
        result.notes = row.notes
        page = Path(task.submission.shown).with_suffix(".html")
        write_feedback(parts, result, title=f"{row.lab}: {row.student}", file=task.feedback / page)


@functools.cache  # a process grades many submissions
def _sources(course: Path) -> dict:
    from .labs import lab_names

    return {name: read_notebook(course / "solutions" / name / f"{name}.ipynb") for name in lab_names(course)}


@functools.cache
def _stubs(course: Path, name: str) -> dict[str, str]:
    lab = read_notebook(course / "labs" / name / f"{name}.ipynb")
    return {key_of(cell): cell.source for cell in lab.cells if key_of(cell)}


class Classroom:
    """All submissions of one run, their rows, and what is already done."""

    def __init__(self, tasks: list[Task], *, store: Path, workers: int | None = None):
        self.tasks, self.store = tasks, store
        self.workers = workers or max(1, min(os.cpu_count() or 1, len(tasks)))
        self.rows: dict[int, Row] = {}
        self.solutions = {course: _solutions_hash(course) for course in {task.course for task in tasks}}

    def run(self, progress: Callable[[int, int, Row | None], None] = lambda done, total, row: None) -> list[Row]:
        """Grade what is not yet graded; return a row for each submission, in their order.

        progress: called with the numbers done and in all, and the row that has just come.
        """
        self.store.mkdir(parents=True, exist_ok=True)
        for number, task in enumerate(self.tasks):
            if (row := self._stored(task)) is not None:
                self.rows[number] = row
        progress(len(self.rows), len(self.tasks), None)
        tries = dict.fromkeys(range(len(self.tasks)), 0)
        while left := [number for number in tries if number not in self.rows]:
            alone = any(tries[number] for number in left)  # after a crash, one at a time, so that the cause is known
            self._round(left[:1] if alone else left, tries, progress)
        shutil.rmtree(self.store, ignore_errors=True)
        return [self.rows[number] for number in range(len(self.tasks))]

    def _round(self, left: list[int], tries: dict[int, int], progress) -> None:
        with ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_quiet) as pool:
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
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _keep(self, number: int, row: Row, progress) -> None:
        self.rows[number] = row
        file = self.store / f"{self._key(self.tasks[number])}.json"
        file.with_suffix(".new").write_text(json.dumps(asdict(row)))
        file.with_suffix(".new").replace(file)
        progress(len(self.rows), len(self.tasks), row)

    def _stored(self, task: Task) -> Row | None:
        try:
            return Row(**json.loads((self.store / f"{self._key(task)}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _key(self, task: Task) -> str:
        """Return a name for a submission as it is now, so that a changed one is graded again."""
        about = f"{task.submission.shown}|{task.lab}|{task.limits}|{task.feedback}".encode()
        data = about + task.submission.file.read_bytes() + self.solutions[task.course]
        return hashlib.sha256(data).hexdigest()[:32]


def _solutions_hash(course: Path) -> bytes:
    """Return a hash of all solutions: when one changes, its submissions are graded again."""
    files = sorted((course / "solutions").glob("*/*.ipynb"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


def _quiet() -> None:
    """Set up a grading process: one thread, no warnings of libraries among the results."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def write_csv(rows: list[Row], file: Path) -> None:
    """Write a line for each row: who, which lab, points, a column for each question, and what there is to know."""
    names = list(dict.fromkeys(question["name"] for row in rows for question in row.questions))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["student", "file", "lab", "score", "points", "to mark", *names, "status", "notes", "seconds"])
        for row in rows:
            questions = {question["name"]: question for question in row.questions}
            scores = [_number(questions[name]["score"]) if name in questions else "" for name in names]
            writer.writerow([row.student, row.file, row.lab, *_totals(row), *scores, row.status, _notes(row),
                             f"{row.seconds:.1f}"])  # fmt: skip


def _totals(row: Row) -> list[str]:
    points = sum(question["points"] for question in row.questions)
    to_mark = sum(question["points"] for question in row.questions if question["score"] is None)
    return [_number(sum(question["score"] or 0 for question in row.questions)), _number(points), _number(to_mark)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _notes(row: Row) -> str:
    wrong = [question["line"] for question in row.questions if question["score"] == 0]
    return "; ".join([*row.notes, *wrong])
