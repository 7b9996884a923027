"""Grading a class: every hostile submission gets its right score, and none stops or fools the run."""

import csv
import html
import re
import socket
import threading
import zipfile
from types import SimpleNamespace

import nbformat
import psutil
import pytest

from hostile import LAB, ONE_ANSWER, cell_of, make_submissions, read_from, short_course, solved
from sdcourse.cli import main
from sdcourse.grading.classroom import Classroom, Task, find_submissions
from sdcourse.grading.kernel import Limits
from sdcourse.grading.sandbox import room_problem
from sdcourse.grading.statistics import questions_of, write_statistics
from sdcourse.grading.submission import key_of

NEEDS_SANDBOX = {"reads the solutions", "network", "writes outside", "kills its parent", "child process",
                 "unmounts and remounts", "looks for its neighbours", "800 MB of files", "links for a mailbox",
                 "the package's own reference", "the reference found in memory", "300 processes"}  # fmt: skip
# One of each kind that needs a kernel; all the others, in a run of a minute or two, are slow.
FAST = {"blank", "correct", "exit", "unmounts and remounts", "script in an output", "text that UTF-8 cannot hold",
        "the package's own reference", "helper in a check", "helper below its check", "an essay as a check",
        "files beside it", "half done"}  # fmt: skip
HANDLED = ["helper in the set-up", "split, try-out below", "split, helper above", "a try below as a comment",
           "essay below", "helper in a check", "helper below its check", "Colab without marks", "Windows line ends",
           "an essay as a check", "a check of its own", "a task of its own", "odd metadata", "an experiment below",
           "imports in a cell of its own"]  # fmt: skip
PACKED = ["saved as text", "saved as JSON", "only JSON", "a zip in the zip", "files beside it"]
NEVER_ENDS = {"endless loop", "loop that swallows interrupts", "endless cell"}
STUDENTS = [
    *ONE_ANSWER,
    *HANDLED,
    *PACKED,
    "a folder for a file",
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
    """One submission of each kind, graded in one run."""
    return grade_class(course, tmp_path_factory.mktemp("class"), FAST)


@pytest.fixture(scope="module")
def all_graded(course, tmp_path_factory):
    """All hostile submissions, graded in one run."""
    return grade_class(course, tmp_path_factory.mktemp("whole class"), set(STUDENTS))


def grade_class(course, folder, students):
    server = socket.create_server(("127.0.0.1", 0))
    visits = []
    threading.Thread(target=lambda: visits.append(server.accept()), daemon=True).start()
    expected = make_submissions(folder / "in", course=course, port=server.getsockname()[1])
    hidden = (course / "solutions", course / "labs", folder / "in")
    tasks = [
        Task(submission, course, None, limits_for(submission.student), folder / "pages", hidden, trust=True)
        for submission in find_submissions(folder / "in")
        if submission.student in students
    ]
    rows = Classroom(tasks, store=folder / "store", workers=2).run()
    return SimpleNamespace(rows={row.student: row for row in rows}, expected=expected, folder=folder, visits=visits)


@pytest.mark.slow
def test_every_submission_has_a_row_and_an_expectation(all_graded):
    assert set(all_graded.rows) == set(all_graded.expected) == set(STUDENTS)
    assert len(STUDENTS) >= 80


@pytest.mark.parametrize("student", sorted(FAST))
def test_a_submission_gets_its_score_and_a_clear_line(graded, student):
    check_row(graded, student)


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_each_of_the_whole_class_gets_its_score_and_a_clear_line(all_graded, student):
    check_row(all_graded, student)


def check_row(graded, student):
    if student in NEEDS_SANDBOX and room_problem():
        pytest.skip(f"submissions cannot be shut in here: {room_problem()}")
    row, (points, text) = graded.rows[student], graded.expected[student]
    said = "; ".join([row.status, *row.notes, *(question["line"] for question in row.questions)])
    score = sum(question["score"] or 0 for question in row.questions)
    assert points is None or score == points, said
    assert text in said
    assert "\n" not in said


def test_nothing_got_out_of_the_sandbox(graded, course):
    check_nothing_got_out(graded, course)


@pytest.mark.slow
def test_nothing_of_the_whole_class_got_out_of_the_sandbox(all_graded, course):
    check_nothing_got_out(all_graded, course)


def check_nothing_got_out(graded, course):
    if room_problem():
        pytest.skip(f"submissions cannot be shut in here: {room_problem()}")
    assert not graded.visits
    assert not (course / "written-outside").exists()
    assert not (course / "labs" / "written").exists()
    left = [p for p in psutil.process_iter(["cmdline"]) if "time.sleep(7117)" in (p.info["cmdline"] or [""])[-1]]
    assert not left


def test_a_page_runs_no_script_of_a_learner(graded):
    page = (graded.folder / "pages" / "script in an output" / f"{LAB}.html").read_text(encoding="utf-8")
    own_scripts = re.findall(r"<script(?! nonce)", page)
    assert own_scripts == []
    assert "Content-Security-Policy" in page
    assert not re.findall(r"<script[^>]*>\s*alert|<iframe|<[a-z][^>]*(?:onerror|javascript:)", page)


def test_the_questions_of_the_class_are_counted_with_their_most_frequent_reasons(graded, tmp_path):
    write_statistics(list(graded.rows.values()), tmp_path / "page.html")
    page = text_of(tmp_path / "page.html")
    counts = questions_of(list(graded.rows.values()))[LAB]["check-gradient_by_hand"]
    right = sum(row.questions[0]["status"] == "right" for row in graded.rows.values())
    assert (counts["right"], counts["of"]) == (right, len(FAST))
    assert f"{right} of {len(FAST)}" in page
    assert "ended by itself" in page
    assert not any(student in page for student in ("half done", "script in an output"))


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
    patient = ["--cell-seconds", "600", "--seconds", "600", "--trust"]
    assert main(["grade", str(tmp_path / "handed in.zip"), "--out", str(out), "--lab", "1", *patient]) == 0
    with out.open(newline="", encoding="utf-8-sig") as lines:
        rows = {row["student"]: row for row in csv.DictReader(lines)}
    assert rows["Ada_1"]["check-gradient_by_hand"] == "2"
    assert (rows["Ada_1"]["score"], rows["Ada_1"]["points"], rows["Ada_1"]["to mark"]) == ("3", "6", "3")
    assert rows["Bo_2"]["score"] == "0"
    assert "2 submissions, 2 graded, 0 not" in capsys.readouterr().out


def test_a_run_goes_on_where_it_was_killed(course, tmp_path):
    for student in ("Ada", "Bo"):
        write(read_from(course, "labs"), tmp_path / "in" / student / "lab.ipynb")
    tasks = [Task(s, course, None, Limits(600, 600), None, trust=True) for s in find_submissions(tmp_path / "in")]

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


def test_nbgraders_autograde_takes_the_roles_of_cells_from_the_solution(course):
    from sdcourse.grading.nbgrader_plugin import _part

    solution = read_from(course, "solutions")
    roles = {key_of(cell): cell for cell in solution.cells if key_of(cell)}
    essay = cell_of(solved(course), "on-your-own")
    essay.cell_type, essay.source = "code", "open('/tmp/x', 'w')"
    essay.metadata.nbgrader.update({"solution": False, "grade": True, "locked": True, "points": 100})
    part = _part(essay, 0, roles)
    assert (part.role, part.points) == ("essay", 3.0)
    check = cell_of(solved(course), "check-gradient_by_hand")
    check.source = "open('/tmp/x', 'w')"
    assert _part(check, 0, roles).source == cell_of(solution, "check-gradient_by_hand").source
    essay.metadata.nbgrader.grade_id = "of my own"
    assert _part(essay, 7, roles).role == "own"
