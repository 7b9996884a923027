"""The commands ``sdlab labs build|check`` and ``sdlab grade``."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from sdlab import SdlabError

NOT_GRADED = 3  # the exit code where something has no grade


def add_commands(commands) -> None:
    """Add both commands to the parser of ``sdlab``."""
    labs = commands.add_parser("labs", help="make the labs from the solutions, or check that they are in step")
    labs.add_argument("action", choices=["build", "check"])
    labs.set_defaults(run=run_labs)

    grade = commands.add_parser("grade", help="grade a folder or zip of submitted labs")
    grade.add_argument(
        "submissions", type=Path, nargs="?", metavar="SUBMISSIONS", help="a folder, or a zip from a learning platform"
    )
    grade.add_argument("--out", type=Path, default=Path("grades.csv"), help="default grades.csv; a page beside it")
    grade.add_argument("--feedback", type=Path, metavar="DIR", help="write a page for each learner here")
    grade.add_argument("--lab", help="the lab that was asked for, e.g. 04 (by default each file's own)")
    grade.add_argument("--cell-seconds", type=float, default=30, help="for one cell or call (default 30)")
    grade.add_argument("--seconds", type=float, default=300, help="for one submission (default 300)")
    grade.add_argument("--memory-gb", type=float, default=8, help="for one submission (default 8)")
    grade.add_argument("--jobs", type=int, help="how many at once (by default one a core)")
    grade.add_argument("--zip-names", metavar="CODEPAGE", help="how names in the zip are written, e.g. cp936 (guessed)")
    grade.add_argument("--secret", type=int, help="draw the hidden inputs of an earlier run again")
    grade.add_argument("--room", choices=["bubblewrap", "namespaces"], help="shut submissions in this way (the best)")
    grade.add_argument("--trust", action="store_true", help="grade without a room that holds: only what you trust")
    grade.add_argument("--check-room", action="store_true", help="try to get out of the room, and say what holds")
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
    """Grade all submissions, write the table and the pages; return 0, or 3 if something was not graded."""
    try:
        from .classroom import Classroom, Task, find_submissions, locked, secret_of, unpacked, write_csv
        from .statistics import write_statistics
    except ImportError as error:
        raise SdlabError(f"{error.name} is needed to grade: pip install 'sdlab[teach]'.") from None
    from .kernel import Limits
    from .labs import find_course, lab_names

    if options.submissions is None and not options.check_room:
        raise SdlabError("Say what to grade: a folder of submissions, or the zip of a learning platform.")
    _check_numbers(options)
    course = find_course()
    if options.check_room:
        return _show_room(course, options)
    lab = _lab_name(course, options.lab)
    if not _room_holds(course, options):
        return NOT_GRADED
    limits = Limits(options.cell_seconds, options.seconds, options.memory_gb)
    out, page = options.out.absolute(), options.out.absolute().with_suffix(".html")
    store = out.with_name(out.name + ".part")
    feedback = options.feedback.absolute() if options.feedback else None
    _check_places(out, feedback)
    with unpacked(options.submissions, code_page=options.zip_names) as found, locked(store), ended_by_sigterm():
        hidden = _hidden(course, found.folder, options)
        ours = [place for place in (out, page, store, feedback) if place]
        submissions = find_submissions(found, leave_out=ours, labs=lab_names(course))
        secret = secret_of(store, options.secret)
        tasks = [Task(s, course, lab, limits, feedback, hidden, options.room, options.trust, secret) for s in submissions]
        classroom = Classroom(tasks, store=store, workers=options.jobs)
        rows = classroom.run(_progress())
        _write_all(rows, out, page, store, write_csv, write_statistics)
        classroom.finish()
    return _report(rows, options.out, page, secret, classroom.unkept)


def _write_all(rows, out: Path, page: Path, store: Path, write_csv, write_statistics) -> None:
    try:
        write_csv(rows, out)
    except SdlabError as error:
        raise SdlabError(f"{error} Nothing is lost: all that was graded is kept in {store}; close the table or make room, "
                         "and give the same command again.") from None  # fmt: skip
    try:
        write_statistics(rows, page)
    except SdlabError as error:
        print(f"sdlab: Warning: {error}", file=sys.stderr)


def _report(rows, out: Path, page: Path, secret: int, unkept: str) -> int:
    graded = sum(row.status == "graded" for row in rows)
    print(f"{out}: {len(rows)} submissions, {graded} graded, {len(rows) - graded} not (hidden inputs: --secret {secret}).")
    print(f"{page}: how the class did, question by question.")
    if unkept:
        print(f"sdlab: Warning: rows could not be kept on the way ({unkept}); the table has them all.", file=sys.stderr)
    if graded == len(rows):
        return 0
    print(f"sdlab: Warning: {len(rows) - graded} of {len(rows)} have NO GRADE, which is not 0 points:", file=sys.stderr)
    for row in rows:
        if row.status != "graded":
            print(f"  {row.student}: {row.file}: {row.status}", file=sys.stderr)
    return NOT_GRADED


def _check_places(out: Path, feedback: Path | None) -> None:
    """Raise SdlabError, before any work is done, where the table or the pages could not be written."""
    from .classroom import write_whole

    if out.is_dir():
        raise SdlabError(f"{out} is a folder: give --out the name of a file, such as grades.csv.")
    if out.exists():
        try:
            out.open("r+b").close()
        except OSError as error:
            raise SdlabError(f"{out} cannot be written ({error.strerror}): close it, or give another --out.") from None
    probe = out.with_name(f".{out.name}.probe")
    write_whole("", probe)
    probe.unlink(missing_ok=True)
    if feedback:
        try:
            feedback.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SdlabError(f"{feedback} cannot be a folder of pages ({error.strerror}): give another --feedback.") from None
        write_whole("", feedback / ".probe")
        (feedback / ".probe").unlink(missing_ok=True)


@contextlib.contextmanager
def ended_by_sigterm():
    """Turn SIGTERM into an interruption, so that what runs is ended and what is graded is kept."""

    def interrupt(*_):
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _chosen_room(options: argparse.Namespace):
    from .sandbox import ROOMS, find_room

    return ROOMS[options.room] if options.room else find_room()


def _room_holds(course: Path, options: argparse.Namespace) -> bool:
    """Say whether grading may start; if the room does not hold, say so, loudly, and whether ``--trust`` was typed."""
    from .roomcheck import check_room, holds
    from .sandbox import room_problem

    room = _chosen_room(options)
    problem = room_problem() if room is None else room.problem()
    if not problem:
        report = check_room(room, files=_not_to_be_read(course))
        problem = None if holds(report) else _reached(report)
    if not problem:
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            print("sdlab: Warning: you are root; the limit on processes does not hold for root. Grade as another user "
                  "where you can.", file=sys.stderr)  # fmt: skip
        return True
    said = ("They could read the solutions, use the network and write to your files: grade only work that you trust, and "
            "say so with --trust.")  # fmt: skip
    print(f"sdlab: Warning: submissions cannot be shut in: {problem}. {said}", file=sys.stderr)
    if not options.trust:
        print("sdlab: nothing was graded. Install bubblewrap (apt install bubblewrap), or type --trust.", file=sys.stderr)
    return options.trust


def _reached(report: dict[str, list[str]]) -> str:
    open_ones = [f"{name.replace('_', ' ')} ({', '.join(reached)[:80]})" for name, reached in report.items() if reached]
    return f"the room does not hold: {'; '.join(open_ones)}"


def _not_to_be_read(course: Path) -> list[Path]:
    return [path for path in (course / name for name in ("solutions", "tests", ".git", "grading")) if path.exists()]


def _show_room(course: Path, options: argparse.Namespace) -> int:
    """Print what holds in each room that can be built; return 3 if the one that would be used does not hold."""
    from .roomcheck import check_room, holds
    from .sandbox import ROOMS

    used = _chosen_room(options)
    good = False
    for room in ROOMS.values():
        if problem := room.problem():
            print(f"{room.name}: cannot be used here, because {problem}.")
            continue
        report = check_room(room, files=_not_to_be_read(course))
        print(f"{room.name}{', the one that is used' if room == used else ''}:")
        for name, reached in report.items():
            print(f"  {'open' if reached else 'holds'}  {name.replace('_', ' ')}{': ' if reached else ''}{', '.join(reached)}")
        good = good or (room == used and holds(report))
    print("The room holds." if good else "There is no room that holds: grade only work that you trust, with --trust.")
    return 0 if good else NOT_GRADED


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
