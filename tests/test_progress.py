"""The lines that say how far a run of the tests is."""

import subprocess
import sys

from conftest import ROOT
from progress_plugin import Progress

NAMES = ["a.py::one", "a.py::two", "b.ipynb::Cell 0", "b.ipynb::Cell 1"]


def test_a_file_has_its_line_when_its_last_test_is_done_and_says_what_else_runs():
    progress = Progress()
    progress.expect(NAMES)
    progress.expect(NAMES)  # the other process collects the same
    for name in ("a.py::one", "b.ipynb::Cell 0"):
        progress.begin(name)
    assert progress.end("a.py::one", "passed") == ""
    line = progress.end("a.py::two", "failed")
    assert line.startswith(" 50 %")
    assert line.endswith("a.py: 1 passed, 1 failed   (running: b.ipynb)")
    assert progress.end("b.ipynb::Cell 0", "passed") == ""
    assert progress.end("b.ipynb::Cell 1", "passed").startswith("100 %")


def test_a_run_shows_a_line_a_file_and_every_failure(tmp_path):
    (tmp_path / "test_good.py").write_text("def test_one():\n    pass\n")
    (tmp_path / "test_bad.py").write_text("def test_two():\n    assert False\n")
    command = [sys.executable, "-m", "pytest", "-p", "progress_plugin", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT / "tests")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    lines = [line.split(" % ")[-1].split("  ")[-1] for line in run.stdout.splitlines() if " % " in line]
    assert lines == ["test_bad.py: 1 failed", "test_good.py: 1 passed"]
    assert "FAILED  test_bad.py::test_two" in run.stdout
    assert "1 failed, 1 passed" in run.stdout
