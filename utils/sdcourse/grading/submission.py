"""Read what a learner handed in, and put the answers into the lab as it was given out.

What can be repaired is repaired, and every repair is said; what cannot be graded is :class:`Rejected` in one sentence.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

MAX_FILE_BYTES = 50 * 2**20


class Rejected(Exception):
    """The file cannot be graded; the sentence says why and what to do."""


@dataclass
class Part:
    """One cell of a notebook to be graded.

    role: "set-up", "answer", "check", "essay" (marked by a person), "shown" (the lab's own cell) or "own" (a cell that
    the learner added). source: what runs. visible: what a feedback page shows, without hidden tests.
    """

    role: str
    name: str
    source: str
    visible: str
    cell_type: str = "code"
    points: float = 0
    outputs: list = field(default_factory=list)


def read_notebook(file: Path):
    """Return the notebook in ``file``; raise Rejected if there is none."""
    if file.suffix.lower() != ".ipynb":
        raise Rejected(f"{file.name} is not a notebook: ask for the .ipynb file")
    try:
        if file.stat().st_size == 0:
            raise Rejected("the file is empty: ask for it again")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise Rejected(f"the file is larger than {MAX_FILE_BYTES >> 20} MB: ask for it without outputs")
        notebook = nbformat.reads(file.read_text(encoding="utf-8-sig"), as_version=4)
        cells = [cell for cell in notebook.cells if isinstance(cell.source, str) and cell.cell_type]
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"the file cannot be read ({type(error).__name__}): ask for it again") from None
    except Rejected:
        raise
    except Exception:
        raise Rejected("the file is not a notebook, or a damaged one: ask for it again") from None
    if not cells:
        raise Rejected("the notebook has no cells: ask for it again")
    return notebook


def role_of(cell) -> dict:
    """Return nbgrader's note on a cell, or an empty dictionary."""
    role = cell.get("metadata", {}).get("nbgrader", {})
    return role if isinstance(role, dict) else {}


def visible_source(source: str) -> str:
    """Return the source of a check cell without its hidden tests."""
    return re.sub(r"\n?### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", "", source, flags=re.DOTALL).strip("\n")


def key_of(cell) -> str | None:
    """Return the name of a graded cell or answer of the lab, None for another cell."""
    name = role_of(cell).get("grade_id")
    return name if isinstance(name, str) else None


def recognise(notebook, sources: dict):
    """Return the name of the lab among ``sources`` {name: solution} that most of the answers belong to, or None."""
    counts = {name: sum(1 for _ in _answers(notebook, source)) for name, source in sources.items()}
    best = max(counts, key=counts.get, default=None)
    return best if best is not None and counts[best] else None


def _answers(notebook, source):
    """Yield (name, cell, how) for every answer of the lab found in ``notebook``; how: "name", "id" or "text"."""
    wanted = {key_of(cell): cell for cell in source.cells if role_of(cell).get("solution")}
    by_id = {cell.get("id"): name for name, cell in wanted.items()}
    for cell in notebook.cells:
        if role_of(cell).get("grade") and not role_of(cell).get("solution"):
            continue
        name = key_of(cell)
        if name in wanted:
            yield name, cell, "name"
        elif name is None and (found := _defines(cell, wanted)):
            yield found, cell, "text"
        elif name is None and (found := by_id.get(cell.get("id"))) and _fits(cell, wanted[found]):
            yield found, cell, "id"


def _defines(cell, wanted) -> str | None:
    if cell.cell_type != "code":
        return None
    names = re.findall(r"^def +(\w+)\(", cell.source, flags=re.MULTILINE)
    return next((name for name in names if name in wanted), None)


def _fits(cell, released) -> bool:
    """Say whether a cell without a name may be the answer to a cell that defines no function."""
    return cell.cell_type == released.cell_type and not re.search(r"^def ", released.source, flags=re.MULTILINE)


def put_together(notebook, source, stubs: dict[str, str]) -> tuple[list[Part], list[str]]:
    """Return the lab's cells in the lab's order with the learner's answers in them, and a sentence for each repair.

    source: the solution (its check cells with hidden tests). stubs: {name: what stood in the lab for the answer}.
    """
    chosen, notes, order = _choose(notebook, source, stubs)
    if not chosen:
        raise Rejected("none of the answers of this lab is in it: ask which file was meant")
    notes += _look_at_checks(notebook, source)
    expected = [key_of(cell) for cell in source.cells if key_of(cell) in chosen]
    if order != expected:
        notes.append("the cells were in another order; they were graded in the order of the lab")
    borrowed = [name for name, cell in chosen.items() if re.search(r"(sdlab|sdcourse)\.(checks|grading)", cell.source)]
    if borrowed := [name for name in borrowed if not name.startswith("my-")]:
        notes.append(f"{_list(borrowed)} uses the checks themselves: look at it")
    own = _own_cells(notebook, source, {id(cell) for cell in chosen.values()})
    parts = own.pop("", [])
    for cell in source.cells:
        part = _part(cell, chosen, stubs)
        if part:
            parts.append(part)
        parts += own.pop(cell.get("id") if key_of(cell) is None else key_of(cell), [])
    return parts + [part for rest in own.values() for part in rest], notes


def _choose(notebook, source, stubs):
    """Return {name: the learner's cell}, notes, and the names in the order in which they stand."""
    found: dict[str, list] = {}
    repaired, order = [], []
    for name, cell, how in _answers(notebook, source):
        found.setdefault(name, []).append(cell)
        if how != "name":
            repaired.append(name)
    notes = [f"the mark on {_list(repaired)} was lost; found again by what the cell defines"] if repaired else []
    chosen = {}
    for name, cells in found.items():
        attempted = [cell for cell in cells if cell.source.strip() != stubs.get(name, "").strip()]
        chosen[name] = (attempted or cells)[-1]
        if len(cells) > 1:
            notes.append(f"{name} was there {len(cells)} times; the last one that was worked on was graded")
    for cell in notebook.cells:
        order += [name for name, mine in chosen.items() if mine is cell]
    missing = [name for name in (key_of(c) for c in source.cells if role_of(c).get("solution")) if name not in chosen]
    notes += [f"{_list(missing)} was missing"] if missing else []
    return chosen, notes, order


def _look_at_checks(notebook, source) -> list[str]:
    """Return a sentence for each locked cell that is missing, there twice, or not what was given out."""
    notes = []
    for cell in source.cells:
        role = role_of(cell)
        if not role.get("locked"):
            continue
        mine = [other for other in notebook.cells if _is_lock(other, cell)]
        if not mine and role.get("grade"):
            notes.append(f"{key_of(cell)} was missing; the check of the lab was used")
        elif len(mine) > 1:
            notes.append(f"{key_of(cell)} was there {len(mine)} times; the check of the lab was used once")
        elif mine and mine[0].source.strip() not in (visible_source(cell.source), cell.source.strip()):
            notes.append(f"{key_of(cell)} had been changed; what the lab gave out was used")
    return notes


def _is_lock(mine, cell) -> bool:
    same_text = mine.source.strip() in (visible_source(cell.source), cell.source.strip())
    return key_of(mine) == key_of(cell) or (key_of(mine) is None and same_text)


def _own_cells(notebook, source, taken: set[int]) -> dict[str, list[Part]]:
    """Return the code cells that the learner added or changed, by the lab's cell that they follow."""
    shown = {cell.get("id"): cell for cell in source.cells if cell.cell_type == "code" and key_of(cell) is None}
    locked = [cell.source.strip() for cell in source.cells if role_of(cell).get("locked")]
    checks = {*locked, *map(visible_source, locked)}
    own: dict[str, list[Part]] = {}
    last, count = "", 0
    for cell in notebook.cells:
        known = key_of(cell) or (cell.get("id") if cell.get("id") in {c.get("id") for c in source.cells} else None)
        if id(cell) in taken or (known and key_of(cell) is not None):
            last = key_of(cell) or known or last
            continue
        if cell.cell_type == "code" and cell.source.strip() and cell.source.strip() not in checks:
            same = shown.get(cell.get("id"))
            if same is None or same.source.strip() != cell.source.strip():
                count += 1
                own.setdefault(last, []).append(Part("own", f"own-{count}", cell.source, cell.source))
        last = known or last
    return own


def _part(cell, chosen, stubs) -> Part | None:
    """Return what is graded in the place of one cell of the solution."""
    name, role = key_of(cell), role_of(cell)
    if role.get("solution"):
        mine = chosen[name].source if name in chosen else ""
        kind = "essay" if role.get("grade") else "answer"
        return Part(kind, name, mine, mine, cell.cell_type, float(role.get("points", 0)))
    if role.get("grade"):
        return Part("check", name, cell.source, visible_source(cell.source), points=float(role["points"]))
    if name is not None:
        return Part("set-up", name, cell.source, cell.source)
    return Part("shown", cell.get("id", ""), cell.source, cell.source, cell.cell_type)


def _list(names: list[str]) -> str:
    return ", ".join(names)
