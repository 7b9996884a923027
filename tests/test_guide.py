"""The instructors' guide, word by word: its commands do what it says, from a fresh clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from hostile import LAB, cell_of, read_from, short_course, solved
from sdcourse.grading.sandbox import room_problem
from test_grading import text_of, write

GUIDE = (ROOT / "solutions" / "README.md").read_text(encoding="utf-8")
NAMED = "04_reverse_diffusion"  # the lab that the guide takes as its example
NOT_HERE = ("pip ", "source ", "nbgrader formgrade", "sudo ")  # make env has done it; a server; needs rights


def commands() -> list[str]:
    """Return the commands in the guide's blocks, without their comments."""
    lines = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    found = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [line for line in found if line and not line.startswith(("#", *NOT_HERE))]


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "utils")}
    words = [sys.executable, "-m", "sdcourse.cli", *command.split()[1:]] if command.startswith("sdlab ") else None
    if command.startswith("nbgrader "):
        words = [sys.executable, "-m", *command.split()]
    kept = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    return subprocess.run(words or command, shell=words is None, **kept)


def test_the_guide_has_commands_for_every_step():
    for step in ("sdlab labs build", "sdlab grade --check-room",
                 "sdlab grade SUBMISSIONS --out grades.csv --feedback pages",
                 f"nbgrader generate_assignment {NAMED} --force", f"nbgrader autograde {NAMED}",
                 f"nbgrader generate_feedback {NAMED}", "nbgrader export"):  # fmt: skip
        assert step in commands()


@pytest.mark.slow
def test_the_steps_with_nbgrader_come_to_the_scores_of_the_solutions_roles(tmp_path):
    """The guide's own commands, on a course with one short lab; one essay pretends to be a check."""
    from nbgrader.api import Gradebook

    if room_problem():
        pytest.skip(f"submissions cannot be shut in here: {room_problem()}")
    course = short_course(tmp_path)
    eve = solved(course)
    essay = cell_of(eve, "on-your-own")
    essay.cell_type, essay.outputs, essay.execution_count = "code", [], None
    essay.source = f"open({str(tmp_path / 'written-outside')!r}, 'w').write('here')"
    essay.metadata.nbgrader.update({"solution": False, "grade": True, "locked": True, "cell_type": "code"})
    for student, notebook in {"ada": solved(course), "bo": read_from(course, "labs"), "eve": eve}.items():
        write(notebook, course / "grading" / "submitted" / student / LAB / f"{LAB}.ipynb")
    for command in commands():
        if command.startswith("nbgrader "):
            done = run(command.replace(NAMED, LAB), course)
            assert done.returncode == 0, command + done.stderr[-3000:]
    with Gradebook(f"sqlite:///{course / 'grading' / 'gradebook.db'}") as book:
        scores = {s: book.find_submission(LAB, s).score for s in ("ada", "bo", "eve")}
        waiting = {s: book.find_submission(LAB, s).needs_manual_grade for s in ("ada", "bo", "eve")}
    assert scores == {"ada": 3.0, "bo": 0.0, "eve": 3.0}
    assert waiting == {"ada": True, "bo": False, "eve": True}
    assert not (tmp_path / "written-outside").exists()
    text = text_of(course / "grading" / "feedback" / "ada" / LAB / f"{LAB}.html")
    assert "check.gradient_by_hand(gradient_by_hand)" in text
    assert "hidden=True" not in text


@pytest.mark.slow
def test_every_command_of_the_guide_works_in_a_fresh_clone(tmp_path):
    if room_problem():
        pytest.skip(f"submissions cannot be shut in here: {room_problem()}")
    clone = tmp_path / "clone"
    done = subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this copy of the course is no git repository: {done.stderr.strip()[-100:]}")
    for name in ("solutions", "labs", "nbgrader_config.py"):
        shutil.rmtree(clone / name, ignore_errors=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, clone / name)
    submitted = clone / "grading" / "submitted" / "ada" / NAMED
    submitted.mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / NAMED / f"{NAMED}.ipynb", submitted)
    for command in commands():
        done = run(command.replace("SUBMISSIONS", "grading/submitted"), clone)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        if command.startswith("sdlab grade SUBMISSIONS"):  # the path that the guide names; 3 points wait for a person
            assert ",12,15,3," in (clone / "grades.csv").read_text(encoding="utf-8-sig")
    assert ",12.0,0.0,12.0,15.0" in (clone / "grades.csv").read_text(encoding="utf-8-sig")  # nbgrader's own export
