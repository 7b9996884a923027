"""Google Colab: the one cell that fetches the course there, and the address from which it does.

The cell stands in every notebook and does nothing outside Colab. ``sdlab colab ADDRESS`` writes the address of a
published copy (a fork, say) into all of them, with a link that opens the notebook in Colab.
"""

import os
import re
from pathlib import Path

from .errors import SdlabError

FOLDERS = ("course", "solutions")  # labs are made from solutions
TAG = "colab"
METADATA = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": [TAG, "remove-cell"]}
LINK = "[Open in Colab](https://colab.research.google.com/github/{repository}/blob/{branch}/{path})"
_OLD_LINK = re.compile(r"\n\n\[Open in Colab\]\(.*\)\Z")
_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")

CELL = """\
# @title In Colab, run this cell first; anywhere else it does nothing
import importlib.util
import os
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("sdlab"):
    address = os.environ.get("SDLAB_REPOSITORY", "{address}")
    home = os.path.abspath("inside-stable-diffusion")
    if os.system(f"git clone --quiet --depth 1 {branch}'{{address}}' '{{home}}'") and not os.path.isdir(home):
        raise RuntimeError(f"The course cannot be fetched from {{address!r}}: check the network, and this address.")
    sys.path.insert(0, f"{{home}}/utils")
    importlib.import_module("sdlab.colab").start("{folder}")"""


def start(folder: str) -> None:
    """Go to a folder of the course, and say what this machine has; install nothing, so that Colab's own stays whole."""
    from .doctor import check_device, check_packages

    root = Path(__file__).parents[2]
    os.chdir(root / folder)
    bad = [check for check in check_packages() if check.remedy]
    for check in bad:
        print(f"{check.name} {check.found}: the course was made for another version; if a cell fails, {check.remedy}")
    if not bad:
        device = check_device()
        print(f"The course is in {root.name}; {device.found}.")


def bootstrap(folder: str, *, address: str = "", branch: str = "") -> str:
    """Return the source of the cell for a notebook in ``folder``; address "" is a copy not published yet."""
    return CELL.format(address=address, branch=f"--branch {branch} " if branch else "", folder=folder)


def is_bootstrap(cell) -> bool:
    """Say whether a notebook's cell is the one for Colab."""
    return cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])


def place_cell(notebook, path: str, *, address: str = "", branch: str = ""):
    """Put the cell before a notebook's first code cell, and the link into its first text; return the same notebook.

    path: of the notebook in the repository, "course/04_reverse_diffusion.ipynb"; a solution's link opens its lab.
    """
    import nbformat

    path = path.replace("solutions/", "labs/", 1)
    source = bootstrap(path.rpartition("/")[0], address=address, branch=branch)
    notebook.cells = [cell for cell in notebook.cells if not is_bootstrap(cell)]
    first = next(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    notebook.cells.insert(first, nbformat.v4.new_code_cell(source, metadata=nbformat.from_dict(METADATA)))
    title = notebook.cells[0]
    title.source = _OLD_LINK.sub("", title.source)
    if address:
        link = LINK.format(repository=_repository(address), branch=branch or "main", path=path)
        title.source += f"\n\n{link}"
    return notebook


def place_cells(root: Path, *, address: str = "", branch: str = "") -> list[Path]:
    """Write the cell for ``address`` into every lesson and solution below ``root``; return the files that changed."""
    import nbformat

    from .notebooks import clean, find_notebooks, write

    if address:
        _repository(address)
    if branch and not re.fullmatch(r"[\w./-]+", branch):
        raise SdlabError(f"--branch must be the name of a branch or tag, but got {branch!r}.")
    changed = []
    for file in find_notebooks([root / folder for folder in FOLDERS]):
        before = file.read_text(encoding="utf-8")
        path = file.relative_to(root).as_posix()
        notebook = place_cell(nbformat.reads(before, as_version=4), path, address=address, branch=branch)
        write(clean(notebook), file)
        if file.read_text(encoding="utf-8") != before:
            changed.append(file)
    return changed


def _repository(address: str) -> str:
    """Return OWNER/NAME of an address on GitHub, from where Colab opens notebooks."""
    found = _GITHUB.fullmatch(address)
    if not found:
        raise SdlabError(f"Colab opens notebooks from https://github.com/OWNER/NAME, but got {address!r}.")
    return found[1]
