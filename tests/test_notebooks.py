"""The house rules of a stored notebook, each with what to do; nbval (see the Makefile) re-runs it and compares.

Cells are counted from 0, as in their ids.
"""

import re
from itertools import pairwise

import nbformat
import pytest

from conftest import ROOT
from notebook_images import FORMATS
from sdcourse.colab import is_bootstrap
from sdcourse.notebooks import WIDGET_VIEW, clean, execute, find_notebooks, write

STORED = find_notebooks([ROOT / "course", ROOT / "solutions"])
LABS = find_notebooks([ROOT / "labs"])
KNOWN_TAGS = {"nbval-ignore-output", "measures-time", "another-map", "raises-exception", "colab", "remove-cell"}
MACHINE_PATH = re.compile(r"/(?:home|Users|root|tmp|work|mnt|var)/\w+|[A-Z]:\\\w+|ipykernel_\d+")


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def outputs_of(notebook) -> list:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def output_text(output) -> str:
    data = output.get("data", {})
    return "\n".join(str(part) for part in (output.get("text"), data.get("text/plain"), data.get("text/html")) if part)


def headings(notebook) -> list[tuple[int, str]]:
    """Return (level, text) of every markdown heading, code fences left out."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [(len(marks), title) for marks, title in re.findall(r"^(#{1,6}) +(.+)$", text, flags=re.MULTILINE)]


def code_lines(cell) -> int:
    return len([line for line in cell.source.splitlines() if line.strip()])


@pytest.fixture(params=STORED, ids=lambda file: file.stem)
def file(request):
    return request.param


@pytest.fixture
def notebook(file):
    return nbformat.read(file, as_version=4)


def test_the_notebook_is_valid(notebook):
    nbformat.validate(notebook)


def test_the_notebook_was_run_once_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "it was not stored from one run: run 'make outputs'"


def test_the_notebook_stores_no_error_and_nothing_on_stderr(notebook):
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"cell {index} stores {output.ename}: {output.evalue}"
            assert output.get("name") != "stderr", f"cell {index} stores a warning, silence its cause: {output.text}"


def test_the_notebook_stores_no_widget_and_no_timing(notebook):
    advice = "store it with 'make outputs', not from JupyterLab"
    assert "widgets" not in notebook.metadata, f"it stores the state of widgets: {advice}"
    assert not [output for output in outputs_of(notebook) if WIDGET_VIEW in output.get("data", {})], advice
    timed = [index for index, cell in enumerate(notebook.cells) if "execution" in cell.metadata]
    assert not timed, f"cells {timed} store times of day: {advice}"


def test_the_notebook_is_smaller_than_half_a_megabyte(file):
    size = file.stat().st_size
    assert size < 500_000, f"{size:,} bytes: show fewer or smaller pictures, or figures of pictures as JPEG"


def test_the_notebook_has_one_title_and_its_headings_in_order(notebook):
    levels = [level for level, _ in headings(notebook)]
    assert levels[:1] == [1] and levels.count(1) == 1, f"one title, '# ...', comes first, but the levels are {levels}"
    jumps = [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1]
    assert not jumps, f"a heading level is left out: {jumps}"


def test_the_first_code_cell_sets_up_in_at_most_eight_lines(notebook):
    first = next(cell for cell in code_cells(notebook) if not is_bootstrap(cell))
    assert code_lines(first) <= 8, f"the set-up cell has {code_lines(first)} lines"
    for trick in ("pip install", "sys.path"):
        assert trick not in first.source, f"the set-up cell has no {trick!r}: what is needed belongs in pyproject.toml"


def test_code_cells_are_short(notebook):
    lengths = {index: code_lines(cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"}
    long = {index: length for index, length in lengths.items() if length > 14}
    assert max(lengths.values()) <= 25, f"cut these cells (number: lines): {long}"
    assert len(long) <= len(lengths) // 10, f"at most one cell in ten may have over 14 lines: {long}"


def test_every_picture_has_an_alt_text(notebook):
    for output in outputs_of(notebook):
        for kind in set(FORMATS) & set(output.get("data", {})):
            alt = output.metadata.get(kind, {}).get("alt", "")
            assert len(alt.split()) >= 3, (
                f"show the picture with show_images or new_figure: {output.data['text/plain']}"
            )
            assert output.data["text/plain"] == alt


def test_every_picture_in_the_text_has_an_alt_text(notebook):
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            bare = re.findall(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>", cell.source)
            assert not bare, f"cell {index}: say in words what the picture shows: {bare[0]}"


def test_links_in_the_notebook_lead_somewhere(file, notebook):
    for index, cell in enumerate(notebook.cells):
        links = re.findall(r"\]\(([^)#\s]+)", cell.source) if cell.cell_type == "markdown" else []
        for link in [link for link in links if not re.match(r"\w+:", link)]:
            assert (file.parent / link).exists(), f"cell {index} links to {link}, which is not there"


def test_a_cell_whose_output_is_not_compared_to_the_last_digit_says_why(notebook):
    """notebook_plugin.py says what is compared instead; nothing is left out altogether."""
    for index, cell in enumerate(notebook.cells):
        tags = set(cell.metadata.get("tags", []))
        assert tags <= KNOWN_TAGS, f"cell {index} has a tag that nothing reads: {tags - KNOWN_TAGS}"
        reasons = tags & {"measures-time", "another-map"}
        assert not reasons or "nbval-ignore-output" in tags, f"cell {index}: nbval would compare it all the same"
        if "measures-time" in reasons:
            assert re.search(r"seconds|perf_counter|take_turns|spent", cell.source), f"cell {index} measures no time"
        if "another-map" in reasons:
            assert "assert" in cell.source, f"cell {index}: assert what holds on every map"
        if "nbval-ignore-output" in tags and not reasons:
            shown = [output_text(output) for output in cell.outputs]
            widget = re.search(r"explore\(|_panel\(", cell.source)
            assert shown or widget, f"cell {index} shows nothing that could differ: it needs no tag"


def test_the_notebook_names_no_path_of_one_machine(notebook):
    for index, cell in enumerate(notebook.cells):
        for text in [cell.source, *map(output_text, cell.get("outputs", []))]:
            match = MACHINE_PATH.search(text)
            assert not match, f"cell {index} names {match.group()}, which is on one machine only"


def test_a_picture_is_shown_within_the_first_five_cells_of_a_lesson(file, notebook):
    if file.parent.name != "course" or not re.match(r"\d\d_", file.name):
        pytest.skip("not a lesson")
    cells = [cell for cell in notebook.cells if not is_bootstrap(cell)]
    bundles = [output.get("data", {}) for cell in cells[:5] for output in cell.get("outputs", [])]
    assert any(set(FORMATS) & set(bundle) for bundle in bundles), "show a picture within the first five cells"


@pytest.mark.skipif(not LABS, reason="no lab is there yet")
def test_labs_are_stored_without_outputs():
    for file in LABS:
        assert not outputs_of(nbformat.read(file, as_version=4)), f"{file.name} stores outputs: run 'sdlab labs build'"


def test_executing_stores_clean_outputs_and_counts_from_one(tmp_path):
    made = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Add"),
            nbformat.v4.new_code_cell("print('one')\nprint('two')"),
            nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["nbval-ignore-output"], "collapsed": True}),
        ],
        metadata={"widgets": {"state": 1}},
    )
    nbformat.write(made, tmp_path / "add.ipynb")
    write(execute(tmp_path / "add.ipynb"), tmp_path / "add.ipynb")
    stored = nbformat.read(tmp_path / "add.ipynb", as_version=4)
    assert [cell.execution_count for cell in code_cells(stored)] == [1, 2]
    assert stored.cells[1].outputs[0].text == "one\ntwo\n"
    assert stored.cells[2].outputs[0].data["text/plain"] == "2"
    assert stored.cells[2].metadata == {"tags": ["nbval-ignore-output"]}
    assert "widgets" not in stored.metadata


def test_cleaning_drops_widget_views_and_timing():
    view = nbformat.v4.new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "Slider()"})
    cell = nbformat.v4.new_code_cell("slider", outputs=[view], execution_count=7, metadata={"execution": {"idle": "1"}})
    cleaned = clean(nbformat.v4.new_notebook(cells=[cell])).cells[0]
    assert cleaned.outputs == []
    assert cleaned.execution_count == 1
    assert "execution" not in cleaned.metadata
