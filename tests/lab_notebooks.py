"""Find the labs, their solutions and the answers in them."""

import importlib
import re
from pathlib import Path

import nbformat

from conftest import ROOT

SOLUTIONS = sorted(file for file in (ROOT / "solutions").glob("*/*.ipynb") if file.stem == file.parent.name)
NAMES = [file.stem for file in SOLUTIONS]


def read(folder: str, name: str):
    """Return the notebook of the lab ``name`` in the folder labs or solutions."""
    return nbformat.read(ROOT / folder / name / f"{name}.ipynb", as_version=4)


def number_of(name: str) -> str:
    """Return the number of a lab: 01."""
    return name[:2]


def checks_of(name: str):
    """Return the lab's own object ``check``."""
    return importlib.import_module(f"sdcourse.checks.lab_{number_of(name)}").check


def wrong_answers_of(name: str) -> dict:
    """Return ``WRONG`` of the lab: {exercise: [(part of the hint, answer), ...]}."""
    return importlib.import_module(f"wrong_answers.lab_{number_of(name)}").WRONG


def answers_in(notebook) -> dict:
    """Run the set-up and the answers of a notebook (not its checks) and return its names."""
    names: dict = {"__name__": "answers"}
    for cell in notebook.cells:
        role = cell.metadata.get("nbgrader", {})
        wanted = role.get("grade_id") == "set-up" or (role.get("solution") and not role.get("grade"))
        if cell.cell_type == "code" and wanted and not role["grade_id"].startswith("my-"):
            exec(compile(cell.source, f"<{role['grade_id']}>", "exec"), names)
    return names


def checked(notebook) -> dict[str, str]:
    """Return {exercise: name of the answer} from the check cells of a notebook."""
    cells = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    lines = [cell.source.splitlines()[0] for cell in cells if cell.cell_type == "code"]
    return dict(re.fullmatch(r"check\.(\w+)\((\w+)\)", line).groups() for line in lines)


def code_cells(notebook) -> list:
    """Return the code cells that are not empty."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def file_of(folder: str, name: str) -> Path:
    """Return the path of a lab or solution."""
    return ROOT / folder / name / f"{name}.ipynb"
