"""Submissions to a lab as they come in: good, bad, broken and malicious, each with what it must come to.

The lab is the beginning of lab 01 (two exercises and the essay), so that a submission takes few seconds.
``make_submissions`` writes one folder a student; ``EXPECTED`` says the points of the checks (of 3) and a part of what
the row has to say.
"""

import copy
import shutil
import zipfile
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
inside._called = lambda names, payload: {"status": "right", "value": True}
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

UNMOUNTS = f"""
import ctypes, os
def _look_below():
    if os.readlink("/proc/self/ns/mnt") == {{namespace!r}}:
        raise OSError("there is no room: nothing is tried")
    libc = ctypes.CDLL(None)
    libc.unshare(0x10000000 | 0x20000)
    for line in open("/proc/self/mounts"):
        place = line.split()[1].encode()
        libc.umount2(place, 2)
        libc.mount(None, place, None, 32 | 4096, None)
    open(os.path.join({{root!r}}, "labs", "written"), "w").write("here")
{HEAD}    _look_below()
{RIGHT}"""
KILLS = f"""
import os
{HEAD}    if os.readlink("/proc/self/ns/pid") != {{pid_namespace!r}}:  # never where there is no room
        os.kill(os.getppid(), 9)
        os.kill(1, 9)
{RIGHT}"""
MAILBOX = f"""
import contextlib, os
for name in ("reply", "request", "k.json", "../reply", "../k.json", "../kernel/k.json", "k.json-1"):
    with contextlib.suppress(OSError):
        os.unlink(name)
    with contextlib.suppress(OSError):
        {{make}}
{HEAD}{RIGHT}"""
NEIGHBOURS = f"""
import glob, importlib.util, os, sys
def _others():
    found = [file for place in ("/tmp", "/run", "/dev/shm", os.path.dirname({{root!r}}))
             for file in glob.glob(os.path.join(place, "**", "*"), recursive=True)]
    mine = ("/tmp/work", "/tmp/kernel", "/tmp/ipython", "/tmp/mpl", "/tmp/jupyter", "/tmp/runtime")
    needed = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(importlib.util.find_spec("sdlab").origin))]
    return [file for file in found if not file.startswith(mine)
            and not any(file.startswith(place) or place.startswith(file) for place in needed)]
{HEAD}    if _others():
        return noisy.sum() * 0, noisy.sum() * 0
{RIGHT}"""
PROCESSES = f"""
import subprocess
_many = [subprocess.Popen(["sleep", "60"]) for _ in range(300)]
{HEAD}{RIGHT}"""
FILLS = f"""{HEAD}    with open("large", "wb") as file:
        for _ in range(800):
            file.write(bytes(2**20))
{RIGHT}"""
MERMAID = f"""
from IPython.display import display, HTML, Javascript
display({{"text/vnd.mermaid": "graph TD; A[<img src=x onerror=alert(7117)>]", "text/plain": "a graph"}}, raw=True)
display({{"application/javascript": "alert(7117)"}}, raw=True)
display(HTML("<script>alert(7117)</script><img src=x onerror=alert(7117)>"))
display(HTML("<iframe src='javascript:alert(7117)'></iframe>"))
{HEAD}{RIGHT}"""
FRAMES = f"""
import os, struct
def _forge():
    for number in range(3, 64):
        try:
            os.write(number, struct.pack("<cQ", b"A", 20) + b"x" * 20 + struct.pack("<cQ", b"I", 0))
        except OSError:
            pass
{HEAD}    _forge()
{WRONG}"""
DESCRIPTORS = HEAD + "    import os\n    os.closerange(0, 200)\n" + RIGHT
OUTPUT = "for _ in range(300):\n    print('x' * 2**20)\n" + HEAD + RIGHT
NAMED = f"""
from collections import namedtuple
Slopes = namedtuple("Slopes", "weight bias")
{HEAD}    error = weight * noisy + bias - noise
    return Slopes((2 * error * noisy).mean(), (2 * error).mean())
"""
AUTOGRAD = f"""
import torch
{HEAD}    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    return torch.autograd.grad((weight * noisy + bias - noise).square().mean(), (weight, bias))
"""
REFERENCE = f"""
import importlib
{HEAD}    return importlib.import_module("sdcourse.checks." + "lab_01").gradient_by_autograd(weight, bias, noisy, noise)
"""
ALL_MODULES = f"""
import gc, importlib, types
importlib.import_module("sdcourse.checks." + "lab_01")
{HEAD}    for one in gc.get_objects():
        if isinstance(one, types.FunctionType) and one.__name__ in ("gradient_by_autograd", "_slopes"):
            return one(weight, bias, noisy, noise)
{WRONG}"""

# name: (source of the first answer, points of 3, part of the row's text)
ONE_ANSWER = {
    "unmounts and remounts": (UNMOUNTS, 1, "stopped with"),
    "links for a mailbox": (MAILBOX.replace("{make}", "os.symlink({outside!r}, name)"), 3, ""),
    "pipes for a mailbox": (MAILBOX.replace("{make}", "os.mkfifo(name)"), 3, ""),
    "looks for its neighbours": (NEIGHBOURS, 3, ""),
    "300 processes": (PROCESSES, 1, "gradient_by_hand"),
    "800 MB of files": (FILLS, 1, "OSError"),
    "300 MB of output": (OUTPUT, None, ""),
    "40 MB of an answer": (HEAD + "    import torch\n    return torch.zeros(10_000_000), 1\n", 1, "than can be read"),
    "script in an output": (MERMAID, 3, ""),
    "forged frames": (FRAMES, None, ""),
    "closes all descriptors": (DESCRIPTORS, 1, "gradient_by_hand"),
    "text that UTF-8 cannot hold": (HEAD + "    raise ValueError('\\ud83d bad')\n", 1, "ValueError: ? bad"),
    "half precision of the result": (HEAD + RIGHT.replace(".mean()", ".mean().half()"), 1, "torch.float16"),
    "a number of 401 digits": (HEAD + "    return 10**400, 1\n", 1, "gradient_by_hand"),
    "a number of 10,000 digits": (HEAD + "    return 10**10_000, 1\n", 1, "gradient_by_hand"),
    "sparse and complex": (HEAD + "    import torch\n    return torch.eye(3).to_sparse(), torch.tensor(1j)\n", 1,
                           "gradient_by_hand"),
    "a named tuple": (NAMED, 3, ""),
    "autograd, which the task forbids": (AUTOGRAD, 1, "without autograd"),
    "the package's own reference": (REFERENCE, 1, "gradient_by_hand"),
    "the reference found in memory": (ALL_MODULES, 1, "gradient_by_hand"),
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
    "writes outside": (OUTSIDE, 1, "No such file or directory"),
    "warnings": (WARNS, 3, ""),
    "waits for input": (HEAD + "    input()\n" + RIGHT, 1, "stopped with"),
    "kills its parent": (KILLS, None, ""),
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
        **_handled(course),
    }


def _insert(notebook, name: str, source: str, *, below: bool = False, kind: str = "code", metadata: dict | None = None):
    """Put a cell above or below the cell ``name`` of a notebook; return the cell."""
    new = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
    new.metadata = nbformat.from_dict(metadata or {})
    notebook.cells.insert(notebook.cells.index(cell_of(notebook, name)) + below, new)
    return new


HELPER = "def slope(a, b):\n    return (2 * a * b).mean()\n"
WITH_HELPER = HEAD + "    error = weight * noisy + bias - noise\n    return slope(error, noisy), slope(error, 1)\n"


def _handled(course: Path) -> dict:
    """Return {name: (notebook, points, part of the row's text)} of right work as JupyterLab and Colab hand it in."""
    made = {name: solved(course) for name in (
        "helper in the set-up", "split, try-out below", "split, helper above", "a try below as a comment",
        "essay below", "helper in a check", "helper below its check", "Colab without marks", "Windows line ends",
        "an essay as a check", "a check of its own", "a task of its own", "odd metadata", "an experiment below",
        "imports in a cell of its own",
    )}  # fmt: skip
    mine = {name: copy.deepcopy(dict(cell_of(book, "gradient_by_hand").metadata)) for name, book in made.items()}
    for name in ("helper in the set-up", "split, helper above", "helper in a check", "helper below its check"):
        cell_of(made[name], "gradient_by_hand").source = WITH_HELPER
    cell_of(made["helper in the set-up"], "set-up").source += "\n" + HELPER
    _insert(made["split, try-out below"], "gradient_by_hand",
            "print(gradient_by_hand(1, 2, torch.ones(3), torch.ones(3)))", below=True,
            metadata=mine["split, try-out below"])  # fmt: skip
    _insert(made["split, helper above"], "gradient_by_hand", HELPER, metadata=mine["split, helper above"])
    _insert(made["a try below as a comment"], "gradient_by_hand", "# " + HEAD + "#     return 1, 2", below=True,
            metadata=mine["a try below as a comment"])  # fmt: skip
    cell_of(made["essay below"], "on-your-own").source = cell_of(read_from(course, "labs"), "on-your-own").source
    text = "My question was whether the eyes are found."
    _insert(made["essay below"], "on-your-own", text, below=True, kind="markdown")
    cell_of(made["helper in a check"], "check-gradient_by_hand").source = (
        HELPER + "check.gradient_by_hand(gradient_by_hand)"
    )
    _insert(made["helper below its check"], "check-gradient_by_hand", HELPER, below=True)
    for cell in made["Colab without marks"].cells:
        cell.metadata = nbformat.from_dict({"id": cell.pop("id", "x")[::-1] + "colab"})
    made["Colab without marks"].nbformat_minor = 0
    for cell in made["Windows line ends"].cells:
        cell.source = cell.source.replace("\n", "\r\n")
    essay = cell_of(made["an essay as a check"], "on-your-own")
    escape = f"open({str(course / 'written-outside')!r}, 'w').write('here')"
    essay.cell_type, essay.source = "code", escape
    essay.outputs, essay.execution_count = [], None
    essay.metadata.nbgrader.update({"solution": False, "grade": True, "locked": True, "cell_type": "code"})
    roles = {"a check of its own": {"grade": True, "solution": False, "locked": True, "points": 100},
             "a task of its own": {"grade": False, "solution": False, "task": True, "points": 9}}  # fmt: skip
    for name, role in roles.items():
        _insert(made[name], "gradient_by_hand", escape,
                metadata={"nbgrader": {"grade_id": "mine", "schema_version": 3, **role}})  # fmt: skip
    for cell in made["odd metadata"].cells:
        if "nbgrader" not in cell.metadata:
            cell.metadata = nbformat.from_dict({"nbgrader": ["a", {"list": 1}], "id": 7, "tags": "x"})
    _insert(made["an experiment below"], "on-your-own", HEAD + WRONG)
    _insert(made["imports in a cell of its own"], "gradient_by_hand", "from math import pi\nimport torch as th")
    cell_of(made["imports in a cell of its own"], "gradient_by_hand").source = (
        HEAD + "    error = weight * noisy + bias - noise\n"
        "    return (2 * error * noisy * pi / pi).mean(), th.mean(2 * error)\n"
    )
    said = {"helper in the set-up": "what was added was run", "split, try-out below": "there 2 times",
            "split, helper above": "there 2 times", "a try below as a comment": "there 2 times",
            "essay below": "every text of the learner's own", "helper in a check": "what was added was run",
            "helper below its check": "below its check", "Colab without marks": "was lost"}  # fmt: skip
    return {name: (book, 3, said.get(name, "")) for name, book in made.items()}


def make_submissions(folder: Path, *, course: Path, port: int) -> dict:
    """Write all submissions below ``folder``; return {student: (points or None, part of the row's text)}."""
    expected = {}
    values = {"{root!r}": repr(str(course)), "{port}": str(port), "{outside!r}": repr(str(course / "written-outside"))}
    for name, mark in (("mnt", "{namespace!r}"), ("pid", "{pid_namespace!r}")):
        place = Path(f"/proc/self/ns/{name}")
        values[mark] = repr(str(place.readlink()) if place.exists() else "")
    for student, (source, points, text) in ONE_ANSWER.items():
        for mark, value in values.items():
            source = source.replace(mark, value)
        _write(with_answer(course, source), folder / student / f"{LAB}.ipynb")
        expected[student] = (points, text)
    for student, (notebook, points, text) in rearranged(course).items():
        _write(notebook, folder / student / "Lab 1 (final).ipynb")
        expected[student] = (points, text)
    return expected | _files(folder) | _packed(folder, course)


def _packed(folder: Path, course: Path) -> dict:
    """Write right work under other names, in a zip, and with files beside it; return what is expected of it."""
    names = {"saved as text": "lab.ipynb.txt", "saved as JSON": "lab.ipynb.json", "only JSON": "lab.json"}
    for student, name in names.items():
        _write(solved(course), folder / student / "lab.ipynb")
        (folder / student / "lab.ipynb").rename(folder / student / name)
    _write(solved(course), folder / "a zip in the zip" / "inner" / "lab.ipynb")
    with zipfile.ZipFile(folder / "a zip in the zip" / "work.zip", "w") as archive:
        archive.write(folder / "a zip in the zip" / "inner" / "lab.ipynb", "work/lab.ipynb")
    shutil.rmtree(folder / "a zip in the zip" / "inner")
    beside = with_answer(course, "from helpers import slope\n" + WITH_HELPER)
    _write(beside, folder / "files beside it" / "lab.ipynb")
    (folder / "files beside it" / "helpers.py").write_text(HELPER)
    (folder / "files beside it" / "picture.png").write_bytes(b"\x89PNG")
    return dict.fromkeys((*names, "a zip in the zip", "files beside it"), (3, ""))


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
    (folder / "a folder for a file" / "lab.ipynb").mkdir(parents=True)
    (folder / "a folder for a file" / "lab.ipynb" / "notes.doc").write_bytes(b"notes")
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('my essay')")])
    _write(other, folder / "wrong notebook" / "lab.ipynb")
    return {
        "not a notebook": (0, "cannot be read"),
        "half a file": (0, "not a notebook, or a damaged one"),
        "empty file": (0, "the file is empty"),
        "a PDF": (0, "lab.pdf is not a notebook"),
        "a folder for a file": (0, "notes.doc is not a notebook"),
        "wrong notebook": (0, "no answer of any lab"),
    }


def _write(notebook, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, file)
