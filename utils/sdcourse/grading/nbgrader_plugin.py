"""What nbgrader does in its own runs for this course (named in nbgrader_config.py)."""

import secrets
from pathlib import Path

from nbformat import from_dict
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Float, Int, List, Unicode

from .collect import Submission, read_beside
from .grade import grade
from .kernel import Limits, Place
from .labs import CONFIG
from .submission import (
    Part,
    clean_cells,
    key_of,
    may_be_notebook,
    put_together,
    read_notebook,
    role_of,
    visible_source,
)


class MarkUnsolved(NbGraderPreprocessor):
    """Tag the cells of a lab that may fail until it is solved, so that "Run All" goes on to the end."""

    def preprocess_cell(self, cell, resources, cell_index):
        """Tag every code cell but the set-up."""
        role = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and role.get("grade_id") != "set-up":
            cell.metadata.setdefault("tags", [])
            cell.metadata.tags = sorted({*cell.metadata.tags, "raises-exception"})
        return cell, resources


class RolesFromSolution(NbGraderPreprocessor):
    """Put the answers of a submission into the lab, as ``sdlab grade`` does, before nbgrader looks at a cell of it.

    What a cell is (answer, check, essay, set-up) is said by the solution alone, whatever the submission says.
    """

    def preprocess(self, notebook, resources):
        """Return the lab with the learner's sources in it, and the learner's own cells where they belong."""
        course, name = _course_and_lab(resources)
        solution, lab = _read(course, "solutions", name), _read(course, "labs", name)
        stubs = {key_of(cell): cell.source for cell in lab.cells if key_of(cell)}
        roles = {key_of(cell): cell.metadata for cell in lab.cells if key_of(cell)}
        parts, notes = put_together(clean_cells(notebook), solution, stubs)
        for note in notes:
            self.log.warning("%s: %s", name, note)
        notebook.cells = [_cell(part, roles.get(part.name)) for part in parts]
        return notebook, resources


class SandboxExecute(NbGraderPreprocessor):
    """Runs a submission as ``sdlab grade`` does, in the place of nbgrader's own Execute."""

    cell_seconds = Float(30, help="For one cell or call.").tag(config=True)
    seconds = Float(300, help="For one submission.").tag(config=True)
    memory_gb = Float(8, help="For one submission.").tag(config=True)
    trust = Bool(False, help="Grade without a room where there is none: only work that you trust.").tag(config=True)
    secret = Int(-1, help="Draw the hidden inputs of an earlier run again.").tag(config=True)
    hidden = List(Unicode(), ["solutions", "tests", ".git", "grading"], help="Not seen from inside.").tag(config=True)

    def preprocess(self, notebook, resources):
        """Run the cells and put what came out, and what the checks said, into them."""
        course, name = _course_and_lab(resources)
        hidden = tuple(course / folder for folder in self.hidden if (course / folder).is_dir())
        roles = {key_of(cell): cell for cell in _read(course, "solutions", name).cells if key_of(cell)}
        parts = [_part(cell, number, roles) for number, cell in enumerate(notebook.cells)]
        secret = self.secret if self.secret >= 0 else secrets.randbelow(2**40)
        limits = Limits(self.cell_seconds, self.seconds, self.memory_gb)
        beside = _beside(Path(resources["metadata"]["path"]))
        given = "\n\n".join(cell.source for cell in _read(course, "labs", name).cells)
        place = Place(None, self.trust, hidden, beside, given)
        result = grade(parts, lab=name[:2], limits=limits, place=place, secret=secret)
        lines = {question.name: question for question in result.questions}
        for cell, part in zip(notebook.cells, parts, strict=True):
            if cell.cell_type == "code":
                cell.outputs = [from_dict(output) for output in _outputs(part, lines)]
                cell.source = part.visible  # feedback pages are made from this notebook: no hidden tests in it
        for note in result.notes:
            self.log.warning("%s: %s", name, note)
        self.log.info("%s: graded with the secret %s", name, secret)
        return notebook, resources


def _course_and_lab(resources) -> tuple[Path, str]:
    root = Path(resources["metadata"]["path"]).resolve()
    course = next(folder for folder in root.parents if (folder / CONFIG).is_file())
    return course, resources["nbgrader"]["assignment"]


def _read(course: Path, kind: str, name: str):
    return read_notebook(course / kind / name / f"{name}.ipynb")


def _cell(part: Part, metadata):
    """Return the cell of a part: with the marks of the lab, or with none."""
    cell = {"cell_type": part.cell_type, "source": part.visible, "metadata": dict(metadata or {})}
    if part.cell_type == "code":
        cell |= {"outputs": [], "execution_count": None}
    return from_dict(cell)


def _part(cell, number: int, roles: dict) -> Part:
    """Return what is to be graded in a cell; its role is the one that the solution's cell of that name has."""
    name = key_of(cell)
    solution = roles.get(name)
    role = role_of(solution) if solution is not None else {}
    kind = "own"
    if role.get("grade"):
        kind = "essay" if role.get("solution") else "check"
    elif role:
        kind = "answer" if role.get("solution") else "set-up"
    source = solution.source if kind in ("check", "set-up") else cell.source
    cell_type = solution.cell_type if kind == "check" else cell.cell_type
    points = float(role.get("points") or 0)
    return Part(kind, name if role else f"cell-{number}", source, visible_source(source), cell_type, points)


def _beside(folder: Path) -> dict[str, bytes]:
    """Return what was handed in beside the notebook."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and not may_be_notebook(file)]
    names = {str(file.relative_to(folder)): file for file in files if file.name != "timestamp.txt"}
    return read_beside(Submission("", folder, "", beside=names))[0]


def _outputs(part: Part, lines: dict) -> list[dict]:
    """Return the outputs of a cell; a check that was not passed ends in an error, which is what nbgrader scores by."""
    question = lines.get(part.name)
    if part.role != "check" or question.score:
        return part.outputs
    text = part.outputs[0]["text"].strip()
    return [{"output_type": "error", "ename": "CheckError", "evalue": question.line, "traceback": [text]}]
