"""How long grading takes: ``PYTHONPATH=utils:tests python3 tests/benchmarks/grading.py [--n 50]``.

Grades n mixed submissions of the beginning of lab 01 and compares with the time the same notebooks take to run by
themselves (a fresh kernel, all cells). Those that run into a time limit are counted apart.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from nbclient import NotebookClient

from hostile import make_submissions, short_course
from sdcourse.grading.classroom import Classroom, Task, find_submissions
from sdcourse.grading.kernel import Limits
from sdcourse.grading.submission import Rejected, read_notebook

SLOW = {"endless loop", "loop that swallows interrupts", "endless cell"}
STOPS_A_KERNEL = {"exit", "exit in the cell", "kills its parent", "memory bomb", "polite exit"}


def own_seconds(file: Path) -> float | None:
    """Return how long a notebook takes in a plain kernel, all cells, whatever they raise."""
    try:
        notebook = read_notebook(file)
    except Rejected:
        return None
    start = time.perf_counter()
    NotebookClient(notebook, allow_errors=True, timeout=60).execute()
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=50)
    count = parser.parse_args().n
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "course").mkdir()
        course = short_course(folder / "course")
        make_submissions(folder / "in", course=course, port=9)
        found = [s for s in find_submissions(folder / "in") if s.student not in SLOW]
        slow = [s for s in find_submissions(folder / "in") if s.student in SLOW]
        mixed = (found * (count // len(found) + 1))[:count]
        for submissions, title in ((mixed, "mixed"), (slow, "run into a limit")):
            grade_all(submissions, title, course, folder)
        quiet = [s.file for s in found if s.student not in STOPS_A_KERNEL][:12]
        plain = [seconds for file in quiet if (seconds := own_seconds(file)) is not None]
        print(f"by themselves: {statistics.mean(plain):.1f} s each (n = {len(plain)}, one at a time)")


def grade_all(submissions, title: str, course: Path, folder: Path) -> None:
    """Grade a list of submissions and print how long it took."""
    hidden = (course / "solutions", course / "labs", folder / "in")
    tasks = [Task(s, course, None, Limits(10, 120, 2), folder / "pages", hidden, trust=True) for s in submissions]
    start = time.perf_counter()
    rows = Classroom(tasks, store=folder / "store").run()
    wall = time.perf_counter() - start
    each = [row.seconds for row in rows if row.seconds]
    added = [row.seconds - row.own_seconds for row in rows if row.seconds]
    print(f"{title}: {len(rows)} submissions in {wall:.0f} s, {wall / len(rows):.2f} s each")
    print(f"  one takes {statistics.mean(each):.1f} s, of which the checks take {statistics.mean(added):.1f} s")


if __name__ == "__main__":
    main()
