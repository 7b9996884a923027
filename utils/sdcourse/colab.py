"""Google Colab: the one cell that fetches the course there, and the address from which it does.

The cell stands in every notebook and does nothing outside Colab. ``sdlab colab ADDRESS`` writes the address of a
published copy (a fork, say) into all of them, with a link that opens the notebook in Colab.
"""

import os
import re
from pathlib import Path

from sdlab import SdlabError

FOLDERS = ("course", "solutions")  # labs are made from solutions
TAG = "colab"
METADATA = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": [TAG, "remove-cell"]}
LINK = "[Open in Colab](https://colab.research.google.com/github/{repository}/blob/{branch}/{path})"
MAIN = "main"
_OLD_LINK = re.compile(r"\n\n\[Open in Colab\]\(.*\)\Z")
_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
_SETTINGS = re.compile(r'"SDLAB_REPOSITORY", "([^"]*)"\)\n +branch = "([^"]*)"')

CELL = """\
# @title In Colab, run this cell first; anywhere else it does nothing
import importlib.util
import os
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("sdlab"):
    address = os.environ.get("SDLAB_REPOSITORY", "{address}")
    branch = "{branch}"
    home = os.path.abspath("inside-stable-diffusion")
    if not os.path.isdir(home) and os.system(f"git clone -q --depth 1 -b '{{branch}}' '{{address}}' '{{home}}'"):
        raise RuntimeError(f"The course cannot be fetched from {{address or 'nowhere (not published)'}}, {{branch}}.")
    sys.path.insert(0, f"{{home}}/utils")
    importlib.import_module("sdcourse.colab").start("{folder}")"""


def start(folder: str) -> None:
    """Go to a folder of the course, and say what this machine has; install nothing, so that Colab's own stays whole."""
    from .doctor import check_device, check_packages

    root = Path(__file__).parents[2]
    os.chdir(root / folder)
    bad = [check for check in check_packages() if check.remedy]
    for check in bad:
        print(f"{check.name} {check.found}: not what the course was made for; if a cell fails, {check.remedy}")
    if not bad:
        device = check_device()
        print(f"The course is in {root.name}; {device.found}.")


def bootstrap(folder: str, *, address: str = "", branch: str = MAIN) -> str:
    """Return the source of the cell for a notebook in ``folder``; address "" is a copy not published yet."""
    return CELL.format(address=address, branch=branch, folder=folder)


def settings_of(notebook) -> tuple[str, str]:
    """Return (address, branch) that a notebook's cell names, or those of a copy not published yet."""
    found = [_SETTINGS.search(cell.source) for cell in notebook.cells if is_bootstrap(cell)]
    return found[0].groups() if found and found[0] else ("", MAIN)


def is_bootstrap(cell) -> bool:
    """Say whether a notebook's cell is the one for Colab."""
    return cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])


def place_cell(notebook, path: str, *, address: str = "", branch: str = MAIN):
    """Put the cell before a notebook's first code cell, and the link into its first text; return the same notebook.

    path: of the notebook in the repository, "course/04_reverse_diffusion.ipynb"; a solution's link opens its lab.
    Raises SdlabError for a notebook that does not begin with a text, or has no code.
    """
    import nbformat

    path = path.replace("solutions/", "labs/", 1)
    source = bootstrap(path.rpartition("/")[0], address=address, branch=branch)
    notebook.cells = [cell for cell in notebook.cells if not is_bootstrap(cell)]
    first = next((index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"), 0)
    if not first:
        raise SdlabError(f"{path} does not begin with a text and go on with code, as lessons and labs do.")
    notebook.cells.insert(first, nbformat.v4.new_code_cell(source, metadata=nbformat.from_dict(METADATA)))
    title = notebook.cells[0]
    title.source = _OLD_LINK.sub("", title.source)
    if address:
        title.source += "\n\n" + LINK.format(repository=_repository(address), branch=branch, path=path)
    return notebook


def place_cells(root: Path, *, address: str | None = None, branch: str | None = None) -> list[Path]:
    """Write the cell into every lesson and solution below ``root``; return the files that changed.

    address: of the published copy, "" for none; by default the one that stands there now, as with branch.
    """
    import nbformat

    from .notebooks import clean, find_notebooks, write

    check_published(address, branch)
    files = [file for file in find_notebooks([root / folder for folder in FOLDERS]) if file.name[0].isdigit()]
    before = {file: file.read_text(encoding="utf-8") for file in files}
    made = {}
    for file, text in before.items():
        notebook = nbformat.reads(text, as_version=4)
        now = settings_of(notebook)
        wanted = {"address": now[0] if address is None else address, "branch": branch or now[1]}
        made[file] = clean(place_cell(notebook, file.relative_to(root).as_posix(), **wanted))
    for file, notebook in made.items():  # after all could be made
        write(notebook, file)
    return [file for file in files if file.read_text(encoding="utf-8") != before[file]]


def check_published(address: str | None, branch: str | None) -> None:
    """Raise SdlabError for an address that Colab cannot open, or a branch that cannot be one."""
    if address:
        _repository(address)
    if branch and not re.fullmatch(r"[\w./-]+", branch):
        raise SdlabError(f"--branch must be the name of a branch or tag, but got {branch!r}.")


def _repository(address: str) -> str:
    """Return OWNER/NAME of an address on GitHub, from where Colab opens notebooks."""
    found = _GITHUB.fullmatch(address)
    if not found:
        raise SdlabError(f"Colab opens notebooks from https://github.com/OWNER/NAME, but got {address!r}.")
    return found[1]
