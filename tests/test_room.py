"""The room in which answers run: nothing gets out of it, as root and as an ordinary user, however it is built."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from conftest import ROOT
from sdcourse.checks.lab_01 import check as check_01
from sdcourse.cli import main
from sdcourse.grading.escapes import ESCAPES
from sdcourse.grading.kernel import LearnerKernel, Limits, NotStarted, Place, Stopped
from sdcourse.grading.redacted import FOLDER, redacted
from sdcourse.grading.roomcheck import COULD_NOT_START, check_room, holds
from sdcourse.grading.sandbox import ROOMS, SYSTEM, Inside, Room, needed, room_problem

PLAIN = next((python for python in ("/usr/bin/python3", sys.executable) if Path(python).exists()), None)
ORDINARY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(params=list(ROOMS))
def room(request):
    """Each room that can be built here."""
    if problem := ROOMS[request.param].problem():
        pytest.skip(f"{request.param} cannot be built here: {problem}")
    return ROOMS[request.param]


def test_no_escape_works(room):
    report = check_room(room, files=[ROOT / "solutions", ROOT / "tests", ROOT / "pyproject.toml"])
    assert report == {name: [] for name in (*(escape.__name__ for escape in ESCAPES), "write_after_all")}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="already an ordinary user")
def test_no_escape_works_as_an_ordinary_user(room):
    if not shutil.which("setpriv") or PLAIN != "/usr/bin/python3":
        pytest.skip("setpriv and a Python that every user may run are needed")
    inside = Inside(tuple(Path(place) for place in SYSTEM if Path(place).exists()))
    report = check_room(room, inside=inside, python=PLAIN, before=ORDINARY)
    assert COULD_NOT_START not in report
    assert holds(report), report




def test_a_room_that_leaks_is_found_out():
    if problem := ROOMS["bubblewrap"].problem():
        pytest.skip(f"bubblewrap cannot be used here: {problem}")
    leaky = ["bwrap", "--unshare-user", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--"]
    report = check_room(Room("leaky", lambda command, inside, mount_point: [*leaky, *command], ("bwrap",)))
    assert COULD_NOT_START not in report
    for name in ("read_outside", "reach_network", "reach_sockets", "reach_processes"):
        assert report[name], name
    assert not holds(report)


def test_nothing_is_tried_where_there_is_no_room():
    report = check_room(Room("none", lambda command, inside, mount_point: command, ()))
    assert list(report) == [COULD_NOT_START]
    assert not holds(report)


def test_nothing_of_the_course_is_seen_from_a_room(room):
    bound = Inside(needed()).bound()
    assert not any(place in (str(ROOT), str(ROOT / "utils")) for place in bound)
    assert not any(str(ROOT / name).startswith(place) for place in bound for name in ("solutions", "tests", "labs"))


def test_a_room_that_cannot_start_is_no_grade(tmp_path):
    broken = Room("broken", lambda command, inside, mount_point: ["false"], ())
    with LearnerKernel(limits=Limits(), place=Place(broken)) as kernel, pytest.raises(NotStarted):
        kernel.start()


@pytest.fixture(scope="module")
def kernel():
    """One kernel for the tests that leave it as it was."""
    place = Place(trust=True, files={"helpers.py": b"value = 3"})
    with LearnerKernel(limits=Limits(20, 300, 2), place=place) as kernel:
        kernel.start()
        yield kernel


def alive(kernel) -> LearnerKernel:
    if kernel.process is None:
        kernel.start()
    return kernel


def test_files_that_were_handed_in_lie_beside_the_notebook(kernel):
    assert alive(kernel).run("import helpers; print(helpers.value)")[0]["text"] == "3\n"


def test_text_that_utf8_cannot_hold_comes_out_with_question_marks(kernel):
    assert alive(kernel).run("print('\\ud83d bad')")[0]["text"] == "? bad\n"


def test_outputs_are_of_known_types_alone(kernel):
    source = "get_ipython().display_pub.publish({'text/vnd.mermaid': 'graph TD', 'text/plain': 'a graph'})"
    assert alive(kernel).run(source)[0]["data"] == {"text/plain": "a graph"}


def test_links_and_pipes_in_the_folder_do_no_harm(kernel, tmp_path):
    target = tmp_path / "target"
    links = f"import os\nfor name in ('reply', 'request'):\n    os.symlink({str(target)!r}, name)\nos.mkfifo('k.json')"
    alive(kernel).run(links)
    kernel.run("def double(x):\n    return 2 * x")
    assert kernel.call("double", (torch.ones(2),)).tolist() == [2, 2]
    assert not target.exists()


def test_what_a_task_forbids_is_noticed_in_the_other_process(kernel):
    alive(kernel).run("def predict(x, r, c, n):\n    for _ in range(n):\n        x = x - r * c * x\n    return x")
    used = set()
    kernel.call("predict", (1.0, 0.1, 1.0, 3), without=("a loop",), used=used)
    assert used == {"a loop"}


def test_a_cell_that_starts_too_many_processes_is_stopped(kernel):
    many = "import subprocess, time\nmany = [subprocess.Popen(['sleep', '60']) for _ in range(80)]\ntime.sleep(9)"
    with pytest.raises(Stopped, match="processes"):
        alive(kernel).run(many)


def test_an_answer_that_is_too_large_is_refused(kernel):
    alive(kernel).run("import torch\ndef large():\n    return torch.zeros(10_000_000)")
    with pytest.raises(AssertionError, match="more than can be read"):
        kernel.call("large", ())


def test_when_the_time_is_over_no_process_is_started_any_more():
    with LearnerKernel(limits=Limits(0.5, 1, 2), place=Place(trust=True)) as kernel:
        kernel.start()
        with pytest.raises(Stopped):
            kernel.run("while True:\n    pass")
        kernel.deadline = time.monotonic()
        begun = time.monotonic()
        for _ in range(40):
            with pytest.raises(Stopped, match="in all"):
                kernel.start()
        assert time.monotonic() - begun < 1


def test_a_long_temporary_folder_does_not_matter(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with LearnerKernel(limits=Limits(20, 60, 2), place=Place(trust=True)) as kernel:
        kernel.start()
        assert kernel.run("print(1)")[0]["text"] == "1\n"


def test_no_reference_is_left_in_what_a_room_sees_of_the_checks():
    for file in sorted(FOLDER.glob("lab_[0-9][0-9].py")):
        lab = next(ROOT.glob(f"labs/{file.stem[-2:]}_*/*.ipynb")).read_text(encoding="utf-8")
        seen = redacted(file.read_text(encoding="utf-8"), lab)
        assert "check.exercise(" not in seen
        assert "mistakes" not in seen
    whole = (FOLDER / "lab_01.py").read_text(encoding="utf-8")
    assert "gradient_by_autograd" in whole and "gradient_by_autograd" not in redacted(whole, "check.gradient_by_hand")
    assert set(check_01.exercises) & {"gradient_by_hand"}


def test_a_killed_grader_takes_its_rooms_along(tmp_path):
    if room_problem():
        pytest.skip(f"submissions cannot be shut in here: {room_problem()}")
    source = ("from sdcourse.grading.kernel import *\nk = LearnerKernel(limits=Limits(), place=Place())\nk.start()\n"
              "print(k.process.pid, flush=True)\nk.run('import time; time.sleep(60)')")  # fmt: skip
    grader = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    pid = int(grader.stdout.readline())
    inside = psutil.Process(pid).children(recursive=True)
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    gone, left = psutil.wait_procs(inside, timeout=10)
    assert gone and not left


def test_the_command_says_which_escapes_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = main(["grade", "--check-room"])
    said = capsys.readouterr().out
    if room_problem():
        assert code == 3 and "no room that holds" in said
    else:
        assert code == 0 and "holds  unmount" in said and said.endswith("The room holds.\n")
