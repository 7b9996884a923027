"""The commands ``sdlab labs build|check`` and ``sdlab grade``."""

import argparse
import sys
from pathlib import Path

from sdlab import SdlabError


def add_commands(commands) -> None:
    """Add both commands to the parser of ``sdlab``."""
    labs = commands.add_parser("labs", help="make the labs from the solutions, or check that they are in step")
    labs.add_argument("action", choices=["build", "check"])
    labs.set_defaults(run=run_labs)

    grade = commands.add_parser("grade", help="grade a folder or zip of submitted labs")
    grade.add_argument(
        "submissions", type=Path, metavar="SUBMISSIONS", help="a folder, or a zip from a learning platform"
    )
    grade.add_argument("--out", type=Path, default=Path("grades.csv"), help="default grades.csv")
    grade.add_argument("--feedback", type=Path, metavar="DIR", help="write a page for each learner here")
    grade.add_argument("--lab", help="the lab that was asked for, e.g. 04 (by default each file's own)")
    grade.add_argument("--cell-seconds", type=float, default=30, help="for one cell or call (default 30)")
    grade.add_argument("--seconds", type=float, default=300, help="for one submission (default 300)")
    grade.add_argument("--memory-gb", type=float, default=8, help="for one submission (default 8)")
    grade.add_argument("--jobs", type=int, help="how many at once (by default one a core)")
    grade.set_defaults(run=run_grade)


def run_labs(options: argparse.Namespace) -> int:
    """Build or check the labs; return 1 if one has drifted."""
    from .labs import build_labs, drifted_labs, find_course, lab_names

    course = find_course()
    if options.action == "build":
        written = build_labs(course)
        print(*(f"labs/{name} written" for name in written), sep="\n") if written else None
        print(f"{len(lab_names(course))} labs, {len(written)} of them changed.")
        return 0
    said = drifted_labs(course)
    print(*said, sep="\n") if said else print(f"{len(lab_names(course))} labs are what their solutions make.")
    return 1 if said else 0


def run_grade(options: argparse.Namespace) -> int:
    """Grade all submissions, write the table and the pages; return 0, whatever the submissions were."""
    try:
        from .classroom import Classroom, Task, find_submissions, unpacked, write_csv
    except ImportError as error:
        raise SdlabError(f"{error.name} is needed to grade: pip install 'sdlab[teach]'.") from None
    from .kernel import Limits
    from .labs import find_course
    from .sandbox import sandbox_problem

    _check_numbers(options)
    course = find_course()
    if problem := sandbox_problem():
        print(f"sdlab: Warning: submissions are not shut in, because {problem}. They could read the solutions, use the "
              "network and write to your files: grade only work that you trust.", file=sys.stderr)  # fmt: skip
    limits = Limits(options.cell_seconds, options.seconds, options.memory_gb)
    lab = _lab_name(course, options.lab)
    with unpacked(options.submissions) as folder:
        feedback = options.feedback.resolve() if options.feedback else None
        hidden = _hidden(course, folder, options)
        tasks = [Task(s, course, lab, limits, feedback, hidden) for s in find_submissions(folder)]
        store = options.out.resolve().with_name(options.out.name + ".part")
        rows = Classroom(tasks, store=store, workers=options.jobs).run(_progress())
    write_csv(rows, options.out)
    graded = sum(row.status == "graded" for row in rows)
    print(f"{options.out}: {len(rows)} submissions, {graded} graded, {len(rows) - graded} not.")
    for row in rows:
        if row.status != "graded":
            print(f"  {row.file}: {row.status}")
    return 0


def _check_numbers(options: argparse.Namespace) -> None:
    for name in ("cell_seconds", "seconds", "memory_gb", "jobs"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise SdlabError(f"--{name.replace('_', '-')} {value:g} must be more than 0.")


def _lab_name(course: Path, text: str | None) -> str | None:
    from .labs import lab_names

    if text is None:
        return None
    names = lab_names(course)
    matching = [name for name in names if name == text or name.split("_")[0] == text.zfill(2)]
    if not matching:
        raise SdlabError(f"There is no lab {text!r}: the labs are {', '.join(name[:2] for name in names)}.")
    return matching[0]


def _hidden(course: Path, folder: Path, options: argparse.Namespace) -> tuple[Path, ...]:
    """Return the folders that learners' code must not see: solutions, history, and other learners' work."""
    folders = [course / name for name in ("solutions", "tests", ".git", "grading")] + [folder]
    return tuple(path.resolve() for path in [*folders, options.feedback or folder] if path.is_dir())


def _progress():
    """Return a function that shows how far the grading is, on stderr."""
    from tqdm import tqdm

    bar = None

    def show(done: int, total: int, row) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, unit="submission", file=sys.stderr)
        bar.update(done - bar.n)
        if row is not None:
            bar.set_postfix_str(row.student[:30])
        if done == total:
            bar.close()

    return show
