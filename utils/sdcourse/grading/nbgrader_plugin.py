"""What nbgrader does in its own runs for this course (named in nbgrader_config.py)."""

from pathlib import Path

from nbformat import from_dict
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_locked, is_solution
from traitlets import Float, List, Unicode

from .grade import grade
from .kernel import Limits
from .submission import Part, visible_source


class MarkUnsolved(NbGraderPreprocessor):
    """Tag the cells of a lab that may fail until it is solved, so that "Run All" goes on to the end."""

    def preprocess_cell(self, cell, resources, cell_index):
        """Tag every code cell but the set-up."""
        role = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and role.get("grade_id") != "set-up":
            cell.metadata.setdefault("tags", [])
            cell.metadata.tags = sorted({*cell.metadata.tags, "raises-exception"})
        return cell, resources


class SandboxExecute(NbGraderPreprocessor):
    """Runs a submission as ``sdlab grade`` does, in the place of nbgrader's own Execute."""

    cell_seconds = Float(30, help="For one cell or call.").tag(config=True)
    seconds = Float(300, help="For one submission.").tag(config=True)
    memory_gb = Float(8, help="For one submission.").tag(config=True)
    hidden = List(Unicode(), ["solutions", "tests", ".git", "grading"], help="Not seen from inside.").tag(config=True)

    def preprocess(self, notebook, resources):
        """Run the cells and put what came out, and what the checks said, into them."""
        root = Path(resources["metadata"]["path"]).resolve()
        course = next(folder for folder in root.parents if (folder / "nbgrader_config.py").is_file())
        hidden = [course / name for name in self.hidden if (course / name).is_dir()]
        parts = [_part(cell, number) for number, cell in enumerate(notebook.cells)]
        lab = resources["nbgrader"]["assignment"].split("_")[0]
        result = grade(parts, lab=lab, limits=Limits(self.cell_seconds, self.seconds, self.memory_gb), hidden=hidden)
        lines = {question.name: question for question in result.questions}
        for cell, part in zip(notebook.cells, parts, strict=True):
            if cell.cell_type == "code":
                cell.outputs = [from_dict(output) for output in _outputs(part, lines)]
                cell.source = part.visible  # feedback pages are made from this notebook: no hidden tests in it
        for note in result.notes:
            self.log.warning("%s: %s", root.name, note)
        return notebook, resources


def _part(cell, number: int) -> Part:
    role = cell.metadata.get("nbgrader", {})
    name = role.get("grade_id") or f"cell-{number}"
    kind = "own"
    if is_grade(cell):
        kind = "essay" if is_solution(cell) else "check"
    elif is_solution(cell):
        kind = "answer"
    elif is_locked(cell):
        kind = "set-up"
    points = float(role.get("points") or 0)
    return Part(kind, name, cell.source, visible_source(cell.source), cell.cell_type, points)


def _outputs(part: Part, lines: dict) -> list[dict]:
    """Return the outputs of a cell; a check that was not passed ends in an error, which is what nbgrader scores by."""
    question = lines.get(part.name)
    if part.role != "check" or question.score:
        return part.outputs
    text = part.outputs[0]["text"].strip()
    return [{"output_type": "error", "ename": "CheckError", "evalue": question.line, "traceback": [text]}]
