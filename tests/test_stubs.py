"""What a learner sees in IPython: one line for a stub, for a wrong answer and for a right one, never a traceback."""

import subprocess
import sys

SESSION = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cells = ["from sdcourse.checks.lab_01 import check",
         "def predict_distance(a, b, c, d):\\n    raise NotImplementedError",
         "check.predict_distance(predict_distance)", "predict_distance(1, 2, 3, 4)", "raise NotImplementedError",
         "predict_distance = lambda x, rate, bend, n: x * (1 + rate * bend) ** n",
         "check.predict_distance(predict_distance)",
         "predict_distance = lambda x, rate, bend, n: x * (1 - rate * bend) ** n",
         "check.predict_distance(predict_distance)", "check.progress()", "raise NotImplementedError('of the library')"]
for cell in cells:
    print("cell")
    shell.run_cell(cell)
"""


def test_every_outcome_is_one_line_in_ipython():
    run = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True)
    said = [part.strip() for part in run.stdout.split("cell\n")[1:]]
    assert said[2] == said[3] == "○ predict_distance: not attempted yet."
    assert said[4] == "○ this cell: not attempted yet."
    assert said[6].startswith("✗ predict_distance: the sign is wrong")
    assert len(said[6].splitlines()) == 1
    assert said[8] == "✓ predict_distance: right. (1 of 5 right so far)"
    assert said[9].splitlines()[0] == "Lab 01, Walk downhill: 1 of 5 right"
    assert "Traceback" in said[10]
    assert "of the library" in said[10]
