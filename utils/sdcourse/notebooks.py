"""Re-run the stored notebooks and keep what a reader needs: ``python -m sdcourse.notebooks course solutions``.

Every notebook runs top to bottom in a fresh kernel in its own folder. Stored are source, counts 1..n and
clean outputs: no widget state, no times, no kernel of one machine. A notebook that fails is not written.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat

from sdlab import SdlabError

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_CELL_METADATA = {"tags", "nbgrader", "slideshow", "jupyter", "cellView"}
CELL_SECONDS = 300


def find_notebooks(folders: list[str | Path]) -> list[Path]:
    """Return the notebooks below ``folders`` (or the files given), sorted, without Jupyter's checkpoints."""
    found = []
    for folder in map(Path, folders):
        files = [folder] if folder.suffix == ".ipynb" else folder.rglob("*.ipynb")
        found += [file for file in files if ".ipynb_checkpoints" not in file.parts]
    return sorted(found)


def execute(file: Path) -> nbformat.NotebookNode:
    """Run a notebook in a fresh kernel, in its own folder; return it clean, or raise SdlabError if a cell fails."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(file.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise SdlabError(f"{file} did not run to its end:\n{error}") from None
    return clean(notebook)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop from a notebook what differs from run to run or from machine to machine; return the same notebook."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA}
        )
        if cell.cell_type != "code":
            continue
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = [
            _clean_output(output, cell.execution_count) for output in cell.outputs if not _is_widget(output)
        ]
    return notebook


def _is_widget(output) -> bool:
    return WIDGET_VIEW in output.get("data", {})


def _clean_output(output, count: int):
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def write(notebook: nbformat.NotebookNode, file: Path) -> None:
    """Write a notebook, with cell ids that depend only on their place."""
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:02d}"
    nbformat.validate(notebook)
    nbformat.write(notebook, file)


def main(argv: list[str] | None = None) -> int:
    """Re-run and store every notebook below the folders given; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sdcourse.notebooks", description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    try:
        for file in find_notebooks(parser.parse_args(argv).folders):
            start = time.perf_counter()
            write(execute(file), file)
            print(
                f"{file}: {time.perf_counter() - start:.0f} s, {file.stat().st_size / 1e3:.0f} kB", flush=True
            )
    except SdlabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
