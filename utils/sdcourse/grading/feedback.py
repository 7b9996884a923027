"""A page for the learner: the notebook as it was graded, the points on top, no hidden tests."""

import html
import secrets
from pathlib import Path

import nbformat

from ..checks.outcome import MARKS, NOT_CHECKED
from .grade import Result
from .kernel import clean_text
from .submission import Part


def feedback_notebook(parts: list[Part], result: Result, *, title: str):
    """Return the graded cells and a table of points as a notebook."""
    cells = [nbformat.v4.new_markdown_cell(_summary(result, title))]
    for part in parts:
        if part.cell_type == "code":
            outputs = [nbformat.from_dict(output) for output in part.outputs]
            cells.append(nbformat.v4.new_code_cell(part.visible, outputs=outputs))
        else:
            cells.append(nbformat.v4.new_markdown_cell(part.visible))
    return nbformat.v4.new_notebook(cells=cells)


def write_feedback(parts: list[Part], result: Result, *, title: str, file: Path) -> None:
    """Write the page to ``file`` (.html): what a learner has put into it cannot run anything."""
    page = _page(feedback_notebook(parts, result, title=title), title)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(shut(page, scripts=_page(nbformat.v4.new_notebook(), title).count("<script")), encoding="utf-8")


def _page(notebook, title: str) -> str:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(sanitize_html=True, exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": html.escape(title)}})
    return clean_text(page)


def shut(page: str, *, scripts: int) -> str:
    """Return a page that says to browsers what may run in it: its own scripts, which set formulas, or none.

    scripts: how many are the page's own. Where there are more, sanitizing has let one through, and none may run.
    """
    nonce = secrets.token_hex(16)
    allowed = f"script-src 'nonce-{nonce}' 'strict-dynamic'" if page.count("<script") == scripts else "script-src 'none'"
    policy = (f"default-src 'none'; {allowed}; img-src data:; style-src 'unsafe-inline' https://cdnjs.cloudflare.com; "
              "font-src data: https://cdnjs.cloudflare.com; base-uri 'none'; form-action 'none'")  # fmt: skip
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{policy}">'
    return page.replace("<script", f'<script nonce="{nonce}"').replace("<head>", head, 1)


def _summary(result: Result, title: str) -> str:
    total = sum(question.points for question in result.questions)
    open_points = sum(question.points for question in result.questions if question.score is None)
    lines = [f"# {html.escape(title)}", "", f"**{result.score:g} of {total:g} points**"]
    lines[-1] += f" ({open_points:g} still to be given by a person)" if open_points else ""
    lines += ["", "| | question | points | |", "|---|---|---|---|"]
    for question in result.questions:
        points = f"{'?' if question.score is None else f'{question.score:g}'} of {question.points:g}"
        mark = MARKS.get(question.status, MARKS[NOT_CHECKED] if question.score is None else MARKS["wrong"])
        lines.append(f"| {mark} | {question.name.removeprefix('check-')} | {points} | {_cell(question.line)} |")
    return "\n".join([*lines, "", *(f"* {html.escape(note)}" for note in result.notes)])


def _cell(text: str) -> str:
    return html.escape(text).replace("|", "\\|").replace("\n", " ")
