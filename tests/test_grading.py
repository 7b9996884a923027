"""Grading a class: every hostile submission gets its right score, and none stops or fools the run."""

import csv
import html
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest

from hostile import LAB, ONE_ANSWER, make_submissions, read_from, short_course, solved
from sdcourse.cli import main
from sdcourse.grading.classroom import Classroom, Task, find_submissions
from sdcourse.grading.kernel import Limits
from sdcourse.grading.sandbox import sandbox_problem

NEEDS_SANDBOX = {"reads the solutions", "network", "writes outside", "kills its parent", "child process"}
NEVER_ENDS = {"endless loop", "loop that swallows interrupts", "endless cell"}
STUDENTS = [
    *ONE_ANSWER,
    *("blank", "half done", "correct", "edited checks", "deleted check", "doubled check", "stripped metadata"),
    *("reordered", "own helper cell", "answer there twice", "more points"),
    *("not a notebook", "half a file", "empty file", "a PDF", "wrong notebook"),
]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return short_course(tmp_path_factory.mktemp("course with spaces é"))


def limits_for(student: str) -> Limits:
    """What never ends is stopped soon; nobody else is, however busy the machine is."""
    return Limits(15, 600, 2) if student in NEVER_ENDS else Limits(600, 600, 2)


@pytest.fixture(scope="module")
def graded(course, tmp_path_factory):
    """All hostile submissions, graded in one run."""
    folder = tmp_path_factory.mktemp("class")
    server = socket.create_server(("127.0.0.1", 0))
    visits = []
    threading.Thread(target=lambda: visits.append(server.accept()), daemon=True).start()
    expected = make_submissions(folder / "in", course=course, port=server.getsockname()[1])
    hidden = (course / "solutions", course / "labs", folder / "in")
    tasks = [
        Task(submission, course, None, limits_for(submission.student), folder / "pages", hidden)
        for submission in find_submissions(folder / "in")
    ]
    rows = Classroom(tasks, store=folder / "store", workers=2).run()
    return SimpleNamespace(rows={row.student: row for row in rows}, expected=expected, folder=folder, visits=visits)


def test_every_submission_has_a_row_and_an_expectation(graded):
    assert set(graded.rows) == set(graded.expected) == set(STUDENTS)


@pytest.mark.parametrize("student", STUDENTS)
def test_a_submission_gets_its_score_and_a_clear_line(graded, student):
    if student in NEEDS_SANDBOX and sandbox_problem():
        pytest.skip(f"submissions cannot be shut in here: {sandbox_problem()}")
    row, (points, text) = graded.rows[student], graded.expected[student]
    said = "; ".join([row.status, *row.notes, *(question["line"] for question in row.questions)])
    score = sum(question["score"] or 0 for question in row.questions)
    assert points is None or score == points, said
    assert text in said
    assert "\n" not in said


def test_nothing_got_out_of_the_sandbox(graded, course):
    if sandbox_problem():
        pytest.skip(f"submissions cannot be shut in here: {sandbox_problem()}")
    assert not graded.visits
    assert not (course / "written-outside").exists()
    left = [p for p in psutil.process_iter(["cmdline"]) if "time.sleep(7117)" in (p.info["cmdline"] or [""])[-1]]
    assert not left


def text_of(page) -> str:
    """Return what a reader of an HTML page sees."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_feedback_pages_show_the_points_and_no_hidden_test(graded):
    page = text_of(graded.folder / "pages" / "half done" / "Lab 1 (final).html")
    assert "2 of 6 points" in page
    assert "gradient_by_hand: right" in page
    for file in (graded.folder / "pages").rglob("*.html"):
        text = text_of(file)
        assert "check.gradient_by_hand(gradient_by_hand)" in text
        assert "HIDDEN TESTS" not in text
        assert "hidden=True" not in text


def test_an_essay_waits_for_a_person_and_an_empty_one_is_not_attempted(graded):
    essays = {student: graded.rows[student].questions[-1] for student in ("correct", "blank")}
    assert essays["correct"]["score"] is None
    assert essays["correct"]["status"] == "to be marked by a person"
    assert essays["blank"]["score"] == 0
    assert essays["blank"]["status"] == "not attempted"


def write(notebook, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, file)


def test_the_command_grades_a_zip_and_writes_a_column_for_each_question(course, tmp_path, monkeypatch, capsys):
    write(solved(course), tmp_path / "in" / "Ada_1" / "lab.ipynb")
    write(read_from(course, "labs"), tmp_path / "in" / "Bo_2" / "lab.ipynb")
    with zipfile.ZipFile(tmp_path / "handed in.zip", "w") as archive:
        for file in (tmp_path / "in").rglob("*.ipynb"):
            archive.write(file, file.relative_to(tmp_path / "in"))
    monkeypatch.chdir(course)
    out = tmp_path / "out" / "grades.csv"
    patient = ["--cell-seconds", "600", "--seconds", "600"]
    assert main(["grade", str(tmp_path / "handed in.zip"), "--out", str(out), "--lab", "1", *patient]) == 0
    with out.open(newline="", encoding="utf-8") as lines:
        rows = {row["student"]: row for row in csv.DictReader(lines)}
    assert rows["Ada_1"]["check-gradient_by_hand"] == "2"
    assert (rows["Ada_1"]["score"], rows["Ada_1"]["points"], rows["Ada_1"]["to mark"]) == ("3", "6", "3")
    assert rows["Bo_2"]["score"] == "0"
    assert "2 submissions, 2 graded, 0 not" in capsys.readouterr().out


def test_a_run_goes_on_where_it_was_killed(course, tmp_path):
    for student in ("Ada", "Bo"):
        write(read_from(course, "labs"), tmp_path / "in" / student / "lab.ipynb")
    tasks = [Task(s, course, None, Limits(600, 600), None) for s in find_submissions(tmp_path / "in")]

    class Killed(Exception):
        pass

    def stop_after_one(done, total, row):
        if row is not None:
            raise Killed

    with pytest.raises(Killed):
        Classroom(tasks, store=tmp_path / "store", workers=1).run(stop_after_one)
    seen = []
    rows = Classroom(tasks, store=tmp_path / "store", workers=1).run(lambda done, total, row: seen.append((done, row)))
    assert seen[0] == (1, None)
    assert len(seen) == 2
    assert [row.status for row in rows] == ["graded", "graded"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "neither a folder nor a zip file"),
        (["empty"], "No submission in"),
        (["empty", "--lab", "99"], "There is no lab '99'"),
        (["empty", "--seconds", "0"], "--seconds 0 must be more than 0"),
    ],
)
def test_bad_input_to_the_command_gets_one_sentence(course, tmp_path, monkeypatch, capsys, arguments, sentence):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(course)
    assert main(["grade", str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert said.splitlines()[-1].startswith("sdlab: ")


def test_the_command_says_where_it_must_be_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["grade", str(tmp_path)]) == 2
    assert "run this in the folder of the course" in capsys.readouterr().err


def test_a_submission_of_another_lab_than_the_one_asked_for_is_not_graded(course, tmp_path):
    write(solved(course), tmp_path / "in" / "Ada" / "lab.ipynb")
    (submission,) = find_submissions(tmp_path / "in")
    task = Task(submission, course, "02_how_training_goes_wrong", Limits(600, 600), None)
    (row,) = Classroom([task], store=tmp_path / "store", workers=1).run()
    assert row.status == f"not graded: this is {LAB}, and 02_how_training_goes_wrong was asked for"


def test_a_drifted_lab_is_found_and_built_again(course, monkeypatch, capsys):
    monkeypatch.chdir(course)
    file = course / "labs" / LAB / f"{LAB}.ipynb"
    before = file.read_bytes()
    assert main(["labs", "check"]) == 0
    file.write_bytes(before.replace(b"How a lab works", b"How labs work"))
    assert main(["labs", "check"]) == 1
    assert f"labs/{LAB} is not what solutions/{LAB} makes: run 'sdlab labs build'." in capsys.readouterr().out
    assert main(["labs", "build"]) == 0
    assert file.read_bytes() == before


@pytest.mark.slow
def test_plain_nbgrader_comes_to_the_same_scores(course):
    from nbgrader.api import Gradebook

    for student, notebook in {"ada": solved(course), "bo": read_from(course, "labs")}.items():
        write(notebook, course / "grading" / "submitted" / student / LAB / f"{LAB}.ipynb")
    own_programs = str(Path(sys.executable).parent)  # nbgrader looks for alembic on the path
    environment = os.environ | {"PATH": os.pathsep.join([own_programs, os.environ["PATH"]])}
    for command in (["generate_assignment", LAB, "--force"], ["autograde", LAB], ["generate_feedback", LAB]):
        done = subprocess.run([sys.executable, "-m", "nbgrader", *command], cwd=course, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    with Gradebook(f"sqlite:///{course / 'grading' / 'gradebook.db'}") as book:
        scores = {s: book.find_submission(LAB, s).score for s in ("ada", "bo")}
        waiting = {s: book.find_submission(LAB, s).needs_manual_grade for s in ("ada", "bo")}
    assert scores == {"ada": 3.0, "bo": 0.0}
    assert waiting == {"ada": True, "bo": False}
    text = text_of(course / "grading" / "feedback" / "ada" / LAB / f"{LAB}.html")
    assert "check.gradient_by_hand(gradient_by_hand)" in text
    assert "hidden=True" not in text
