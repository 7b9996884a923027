"""Submissions to a lab as they come in: good, bad, broken and malicious, each with what it must come to.

The lab is the beginning of lab 01 (two exercises and the essay), so that a submission takes few seconds.
``make_submissions`` writes one folder a student; ``EXPECTED`` says the points of the checks (of 3) and a part of what
the row has to say.
"""

import copy
import shutil
from pathlib import Path

import nbformat

from conftest import ROOT
from sdcourse.grading.labs import build_labs

LAB = "01_loss_and_gradient_descent"
HEAD = "def gradient_by_hand(weight, bias, noisy, noise):\n"
RIGHT = "    error = weight * noisy + bias - noise\n    return (2 * error * noisy).mean(), (2 * error).mean()\n"
WRONG = "    return noisy.sum() * 0, noisy.sum() * 0\n"

EVERYTHING = (
    """
class Everything(int):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0
    shape, dtype = (), None
    __hash__ = None
"""
    + HEAD
    + "    return Everything(), Everything()\n"
)

PATCHED_CHECKS = (
    """
import sdcourse.checks.exercise, sdcourse.checks.attempt, sdcourse.checks.compare, sdcourse.checks.lab_01 as lab
sdcourse.checks.exercise.Exercise.__call__ = lambda *a, **k: print("right")
sdcourse.checks.compare.difference = sdcourse.checks.exercise.difference = lambda *a, **k: None
lab.check.gradient_by_hand = lambda *a, **k: print("right")
check.gradient_by_hand = lambda *a, **k: print("right")
"""
    + HEAD
    + WRONG
)

PATCHED_TORCH = (
    """
import torch, math, builtins
for name in ("allclose", "isclose", "equal", "eq"):
    setattr(torch, name, lambda *a, **k: True)
torch.Tensor.__eq__ = lambda *a: True
torch.testing.assert_close = math.isclose = builtins.all = lambda *a, **k: True
"""
    + HEAD
    + WRONG
)

PATCHED_HAND = (
    """
import sdcourse.grading.inside as inside
from sdcourse.grading.wire import encode
from pathlib import Path
inside.call_answer = lambda name, request, reply: Path(reply).write_bytes(encode({"status": "right", "value": True}))
"""
    + HEAD
    + WRONG
)

READ_SOLUTIONS = f"""
import json, os
def _steal():
    for root in ("..", "../..", "../../..", {{root!r}}):
        for folder, _, files in os.walk(os.path.join(root, "solutions")):
            for file in files:
                if file.startswith("01") and file.endswith(".ipynb"):
                    for cell in json.load(open(os.path.join(folder, file)))["cells"]:
                        if "def gradient_by_hand" in "".join(cell["source"]):
                            names = dict(globals())
                            exec("".join(cell["source"]), names)
                            return names["gradient_by_hand"]
    raise FileNotFoundError("no solutions here")
{HEAD}    return _steal()(weight, bias, noisy, noise)
"""

NETWORK = (
    """
import socket
"""
    + HEAD
    + """    with socket.create_connection(("127.0.0.1", {port}), timeout=2) as line:
        line.sendall(b"hello")
"""
    + RIGHT
)

OUTSIDE = (
    HEAD
    + """    open({outside!r}, "w").write("here")
"""
    + RIGHT
)

SWALLOWS = (
    HEAD
    + """    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""
)
BOMB = HEAD + "    block = [bytearray(2**24) for _ in range(10_000)]\n" + RIGHT
CHILD = (
    "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(7117)'])\n" + HEAD + RIGHT
)
NOISY = "for line in range(200_000):\n    print('line', line)\n" + HEAD + "    print('x' * 10_000)\n" + RIGHT
WARNS = ("import sys, warnings\nwarnings.warn('careful')\nprint('careful', file=sys.stderr)\n" + HEAD
         + "    warnings.warn('again')\n    print('again', file=sys.stderr)\n" + RIGHT)  # fmt: skip
KNOWS_THE_INPUTS = (
    """
seen = {}
from sdcourse.checks.lab_01 import check as _check
from sdcourse.checks.exercise import Draws as _Draws
def _hook(w, b, x, n):
    error = w * x + b - n
    seen[float(w)] = ((2 * error * x).mean(), (2 * error).mean())
    return seen[float(w)]
_check.gradient_by_hand(_hook)
"""
    + HEAD
    + "    return seen[float(weight)]\n"
)

# name: (source of the first answer, points of 3, part of the row's text)
ONE_ANSWER = {
    "sign turned round": (HEAD + RIGHT.replace("2 *", "-2 *"), 1, "wrong way"),
    "factor forgotten": (HEAD + RIGHT.replace("2 *", "1 *"), 1, "factor 2"),
    "sum for mean": (HEAD + RIGHT.replace("mean", "sum"), 1, "not the sum"),
    "bias forgotten": (HEAD + RIGHT.replace("+ bias ", ""), 1, "bias is missing"),
    "swapped": (
        HEAD + "    e = weight * noisy + bias - noise\n    return 2 * e.mean(), 2 * (e * noisy).mean()\n",
        1,
        "swapped",
    ),
    "syntax error": (HEAD + "    return (2 *\n", 1, "SyntaxError"),
    "endless loop": (HEAD + "    while True:\n        pass\n", 1, "took more than"),
    "loop that swallows interrupts": (SWALLOWS, 1, "took more than"),
    "endless cell": ("while True:\n    pass\n" + HEAD + RIGHT, 1, "took more than"),
    "exit": (HEAD + "    import os\n    os._exit(0)\n", 1, "ended by itself"),
    "exit in the cell": ("import os\nos._exit(0)\n" + HEAD + RIGHT, 1, "ended by itself"),
    "polite exit": (HEAD + "    raise SystemExit\n", 1, "gradient_by_hand"),
    "memory bomb": (BOMB, 1, "emory"),
    "child process": (CHILD, 3, ""),
    "200,000 lines": (NOISY, 3, ""),
    "equal to everything": (EVERYTHING, 1, "returned an object of class Everything"),
    "patched checks": (PATCHED_CHECKS, 1, "gradient_by_hand"),
    "patched torch": (PATCHED_TORCH, 1, "gradient_by_hand"),
    "patched grader's hand": (PATCHED_HAND, 0, "tampered"),
    "reads the solutions": (READ_SOLUTIONS, 1, "FileNotFoundError"),
    "network": (NETWORK, 1, "stopped with"),
    "writes outside": (OUTSIDE, 1, "Read-only file system"),
    "warnings": (WARNS, 3, ""),
    "waits for input": (HEAD + "    input()\n" + RIGHT, 1, "stopped with"),
    "kills its parent": (HEAD + "    import os\n    os.kill(os.getppid(), 9)\n    os.kill(1, 9)\n" + RIGHT, None, ""),
    "huge answer": (HEAD + "    import torch\n    return torch.zeros(40_000_000), 1\n", 1, "gradient_by_hand"),
    "wrong name": ((HEAD + RIGHT).replace("gradient_by_hand", "gradient"), 1, "not attempted"),
    "right only on the inputs seen": (KNOWS_THE_INPUTS, 1, "uses the checks themselves"),
    "changes its arguments": (HEAD + "    noisy *= 2\n    noisy /= 2\n    noisy += 1e-3\n" + RIGHT, 1, "in place"),
    "王小明 Çelik": (HEAD + RIGHT, 3, ""),
}


def short_course(folder: Path) -> Path:
    """Make a course with one lab, the beginning of lab 01, and return its folder."""
    source = read_from(ROOT, "solutions")
    last = source.cells.index(cell_of(source, "check-predict_distance")) + 2
    essay = [cell for cell in source.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "on-your-own"]
    source.cells = [*source.cells[:last], *essay]
    _write(source, folder / "solutions" / LAB / f"{LAB}.ipynb")
    (folder / "labs").mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    build_labs(folder)
    return folder


def cell_of(notebook, name: str):
    """Return the cell with that grade_id."""
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name)


def read_from(course: Path, kind: str):
    """Return the course's lab or solution."""
    return nbformat.read(course / kind / LAB / f"{LAB}.ipynb", as_version=4)


def solved(course: Path):
    """Return the lab with the answers of the solution in it, and an essay."""
    lab, solution = read_from(course, "labs"), read_from(course, "solutions")
    for cell in solution.cells:
        role = cell.metadata.get("nbgrader", {})
        if role.get("solution"):
            cell_of(lab, role["grade_id"]).source = cell.source
    return lab


def with_answer(course: Path, source: str):
    """Return the solved lab with another answer to the first exercise."""
    notebook = solved(course)
    cell_of(notebook, "gradient_by_hand").source = source
    return notebook


def rearranged(course: Path) -> dict:
    """Return {name: (notebook, points, part of the row's text)} of notebooks whose cells were meddled with."""
    half = read_from(course, "labs")
    cell_of(half, "gradient_by_hand").source = cell_of(solved(course), "gradient_by_hand").source
    edited = read_from(course, "labs")
    for cell in edited.cells:
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "code":
            cell.source = "print('all right')"
    deleted, doubled, stripped, reordered, helped, twice = (solved(course) for _ in range(6))
    deleted.cells.remove(cell_of(deleted, "check-gradient_by_hand"))
    doubled.cells.append(copy.deepcopy(cell_of(doubled, "check-gradient_by_hand")))
    for cell in stripped.cells:
        cell.metadata = nbformat.from_dict({})
    reordered.cells.reverse()
    place = helped.cells.index(cell_of(helped, "gradient_by_hand"))
    helped.cells.insert(place, nbformat.v4.new_code_cell("def slope(a, b):\n    return (2 * a * b).mean()"))
    cell_of(helped, "gradient_by_hand").source = (
        HEAD + "    error = weight * noisy + bias - noise\n    return slope(error, noisy), slope(error, 1)\n"
    )
    twice.cells.insert(2, copy.deepcopy(cell_of(read_from(course, "labs"), "gradient_by_hand")))
    points = solved(course)
    cell_of(points, "check-gradient_by_hand").metadata.nbgrader.points = 1000
    return {
        "blank": (read_from(course, "labs"), 0, "not attempted"),
        "half done": (half, 2, "not attempted"),
        "correct": (solved(course), 3, ""),
        "edited checks": (edited, 0, "had been changed"),
        "deleted check": (deleted, 3, "was missing"),
        "doubled check": (doubled, 3, "was there 2 times"),
        "stripped metadata": (stripped, 3, "was lost"),
        "reordered": (reordered, 3, "another order"),
        "own helper cell": (helped, 3, ""),
        "answer there twice": (twice, 3, "was there 2 times"),
        "more points": (points, 3, ""),
    }


def make_submissions(folder: Path, *, course: Path, port: int) -> dict:
    """Write all submissions below ``folder``; return {student: (points or None, part of the row's text)}."""
    expected = {}
    values = {"{root!r}": repr(str(course)), "{port}": str(port), "{outside!r}": repr(str(course / "written-outside"))}
    for student, (source, points, text) in ONE_ANSWER.items():
        for mark, value in values.items():
            source = source.replace(mark, value)
        _write(with_answer(course, source), folder / student / f"{LAB}.ipynb")
        expected[student] = (points, text)
    for student, (notebook, points, text) in rearranged(course).items():
        _write(notebook, folder / student / "Lab 1 (final).ipynb")
        expected[student] = (points, text)
    return expected | _files(folder)


def _files(folder: Path) -> dict:
    """Write what is no lab at all; return what is expected of it."""
    contents = {
        "not a notebook": ("lab.ipynb", b"\x89PNG\r\n\x1a\n\xff\xfe"),
        "half a file": ("lab.ipynb", b'{"cells": [{"cell_type": "code"'),
        "empty file": ("lab.ipynb", b""),
        "a PDF": ("lab.pdf", b"%PDF-1.7"),
    }
    for student, (name, data) in contents.items():
        (folder / student).mkdir(parents=True)
        (folder / student / name).write_bytes(data)
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('my essay')")])
    _write(other, folder / "wrong notebook" / "lab.ipynb")
    return {
        "not a notebook": (0, "cannot be read"),
        "half a file": (0, "not a notebook, or a damaged one"),
        "empty file": (0, "the file is empty"),
        "a PDF": (0, "lab.pdf is not a notebook"),
        "wrong notebook": (0, "no answer of any lab"),
    }


def _write(notebook, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, file)
