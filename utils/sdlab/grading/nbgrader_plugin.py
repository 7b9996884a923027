"""What nbgrader does in its own runs for this course (named in nbgrader_config.py)."""

from nbgrader.preprocessors import NbGraderPreprocessor


class MarkUnsolved(NbGraderPreprocessor):
    """Tag the cells of a lab that may fail until it is solved, so that "Run All" goes on to the end."""

    def preprocess_cell(self, cell, resources, cell_index):
        """Tag every code cell but the set-up."""
        role = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and role.get("grade_id") != "set-up":
            cell.metadata.setdefault("tags", [])
            cell.metadata.tags = sorted({*cell.metadata.tags, "raises-exception"})
        return cell, resources
