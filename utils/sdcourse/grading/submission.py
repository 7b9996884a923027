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


NAMES_OF_A_NOTEBOOK = (".ipynb", ".ipynb.txt", ".ipynb.json", ".ipynb.html")


def may_be_notebook(file: Path) -> bool:
    """Say whether the name of a file is a notebook's, perhaps with an ending that a browser or a platform added."""
    return file.name.lower().endswith(NAMES_OF_A_NOTEBOOK)


def read_notebook(file: Path):
    """Return the notebook in ``file``, its cells reduced to what is graded; raise Rejected if there is none."""
    if not may_be_notebook(file) and file.suffix.lower() not in (".json", ".txt"):
        raise Rejected(f"{file.name} is not a notebook: ask for the .ipynb file")
    try:
        if file.stat().st_size == 0:
            raise Rejected("the file is empty: ask for it again")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise Rejected(f"the file is larger than {MAX_FILE_BYTES >> 20} MB: ask for it without outputs")
        notebook = nbformat.reads(file.read_text(encoding="utf-8-sig"), as_version=4)
        notebook = clean_cells(notebook)
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"the file cannot be read ({type(error).__name__}): ask for it again") from None
    except Rejected:
        raise
    except Exception:
        raise Rejected("the file is not a notebook, or a damaged one: ask for it again") from None
    if not notebook.cells:
        raise Rejected("the notebook has no cells: ask for it again")
    return notebook


def clean_cells(notebook):
    """Return a notebook with the cells of ``notebook`` reduced to what is graded."""
    cells = [_clean_cell(cell) for cell in notebook.cells if isinstance(cell.source, str) and cell.cell_type]
    return nbformat.from_dict({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def _clean_cell(cell):
    """Return a cell of known kinds of things only, its lines ended as everywhere."""
    metadata = dict(cell.metadata) if isinstance(cell.get("metadata"), dict) else {}
    name = cell.get("id") or metadata.get("id")  # Colab keeps it among the metadata
    source = cell.source.replace("\r\n", "\n").encode("utf-8", "replace").decode()
    kind = cell.cell_type if cell.cell_type in ("code", "markdown", "raw") else "raw"
    clean = {"cell_type": kind, "metadata": metadata, "source": source}
    if kind == "code":
        clean |= {"outputs": [], "execution_count": None}
    return nbformat.from_dict(clean | ({"id": name} if isinstance(name, str) else {}))


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
    checks = {key_of(cell) for cell in source.cells if role_of(cell).get("grade")} - set(wanted)
    by_id = {cell.get("id"): name for name, cell in wanted.items() if cell.get("id")}
    for cell in notebook.cells:
        name = key_of(cell)
        if name in checks:
            continue
        if name in wanted:
            yield name, cell, "name"
        for found in _defined(cell, wanted, but=name):
            yield found, cell, "text"
        if name is None and (found := by_id.get(cell.get("id"))) and _fits(cell, wanted[found]):
            yield found, cell, "id"


def _defined(cell, wanted, *, but: str | None) -> list[str]:
    """Return the answers whose functions stand in a cell that bears the mark of another one, or none."""
    names = defined_in(cell.source) if cell.cell_type == "code" else []
    return [name for name in dict.fromkeys(names) if name in wanted and name != but]


def defined_in(source: str) -> list[str]:
    """Return the names of the functions that stand in a cell, whether it can be run or not; lambdas, too."""
    found = re.findall(r"^(?:async +)?def +(\w+) *\(|^(\w+) *= *lambda\b", source, flags=re.MULTILINE)
    return [one or other for one, other in found]


def _fits(cell, released) -> bool:
    """Say whether a cell without a name may be the answer to a cell that defines no function."""
    return cell.cell_type == released.cell_type and not re.search(r"^def ", released.source, flags=re.MULTILINE)


def put_together(notebook, source, stubs: dict[str, str]) -> tuple[list[Part], list[str]]:
    """Return the lab's cells in the lab's order with the learner's answers in them, and a sentence for each repair.

    source: the solution (its check cells with hidden tests). stubs: {name: what stood in the lab for the answer}.
    What a cell is (answer, check, essay, set-up) is said by ``source`` alone.
    """
    chosen, notes, order = _choose(notebook, source, stubs)
    texts = _own_texts(notebook, source, stubs)
    if not chosen and not texts:
        raise Rejected("none of the answers of this lab is in it: ask which file was meant")
    notes += _look_at_checks(notebook, source)
    expected = [key_of(cell) for cell in source.cells if key_of(cell) in chosen]
    if order != expected:
        notes.append("the cells were in another order; they were graded in the order of the lab")
    borrowed = [name for name, cell in chosen.items() if re.search(r"sd(lab|course)\.(checks|grading)", cell.source)]
    if borrowed := [name for name in borrowed if not name.startswith("my-")]:
        notes.append(f"{_list(borrowed)} uses the checks themselves: look at it")
    own = _own_cells(notebook, source, stubs, {id(cell): name for name, cell in chosen.items()})
    parts = own.pop("", [])
    for cell in source.cells:
        name = key_of(cell)
        place = cell.get("id") if name is None else name
        parts += own.pop(f"before {place}", [])
        parts.append(_part(cell, chosen, stubs))
        if parts[-1].role == "essay" and _is_empty(parts[-1].source, stubs.get(name, "")) and texts:
            parts[-1].source = parts[-1].visible = "\n\n".join(texts)
            notes.append(f"nothing stood in the cell of {name}: every text of the learner's own is shown in its place")
        parts += own.pop(place, [])
    return parts + [part for rest in own.values() for part in rest], notes


def _is_empty(text: str, stub: str) -> bool:
    return text.strip() in ("", stub.strip())


def _choose(notebook, source, stubs):
    """Return {name: the learner's cell}, notes, and the names in the order in which they stand."""
    found: dict[str, list] = {}
    for name, cell, how in _answers(notebook, source):
        found.setdefault(name, []).append((cell, how))
    marked = {name: [cell for cell, how in pairs if how == "name"] for name, pairs in found.items()}
    repaired = [name for name in found if not marked[name]]
    notes = [f"the mark on {_list(repaired)} was lost; found again by what the cell defines"] if repaired else []
    chosen = {}
    for name, pairs in found.items():
        cells = [cell for cell, _ in pairs]
        chosen[name], how = _best(notebook, name, marked[name], cells, stubs.get(name, ""))
        if len(marked[name] or cells) > 1:
            count = len(marked[name] or cells)
            notes.append(f"{name} was there {count} times; {how} was graded, and what else was there was run, too")
    order = [name for cell in notebook.cells for name, mine in chosen.items() if mine is cell]
    missing = [name for name in (key_of(c) for c in source.cells if role_of(c).get("solution")) if name not in chosen]
    notes += [f"{_list(missing)} was missing"] if missing else []
    return chosen, notes, order


def _best(notebook, name: str, marked: list, cells: list, stub: str):
    """Return the cell that is the answer among those that may be, and how it was chosen."""
    names = set(defined_in(stub))
    for group in (marked, cells):
        defining = [cell for cell in group if not _is_empty(cell.source, stub) and names & set(defined_in(cell.source))]
        if defining:
            return _before_check(notebook, name, defining), "the last one that defines it"
    attempted = [cell for cell in marked or cells if not _is_empty(cell.source, stub)]
    return (attempted or marked or cells)[-1], "the last one that was worked on"


def _before_check(notebook, name: str, cells: list):
    """Return the last of ``cells`` before the first check of the answer, for later ones may be experiments."""
    checks = [place for place, cell in enumerate(notebook.cells)
              if cell.cell_type == "code" and re.search(rf"^check\.\w+\({name}\)", cell.source, flags=re.MULTILINE)]  # fmt: skip
    before = [cell for cell in cells if not checks or any(cell is other for other in notebook.cells[: checks[0] + 1])]
    return (before or cells)[-1]


def _own_texts(notebook, source, stubs) -> list[str]:
    """Return what the learner wrote, outside code, that is not the lab's text."""
    given = {cell.source.strip() for cell in source.cells if not role_of(cell).get("solution")}
    given |= {text.strip() for text in stubs.values()} | {""}
    essays = {key_of(cell) for cell in source.cells if role_of(cell).get("solution") and role_of(cell).get("grade")}
    return [cell.source.strip() for cell in notebook.cells
            if (cell.cell_type != "code" or key_of(cell) in essays) and cell.source.strip() not in given]  # fmt: skip


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
        elif mine and not _same_text(mine[0], cell):
            more = ", and what was added was run beside it" if _added(mine[0], cell) else ""
            notes.append(f"{key_of(cell)} had been changed; what the lab gave out was used{more}")
    return notes


def _same_text(mine, cell) -> bool:
    return _lines(mine.source) in (_lines(visible_source(cell.source)), _lines(cell.source))


def _lines(source: str) -> list[str]:
    return [line.rstrip() for line in source.strip().splitlines()]


def _added(mine, cell) -> str:
    """Return the lines of a locked cell that the lab did not give out."""
    given = {line.strip() for line in cell.source.splitlines()}
    lines = [line for line in mine.source.splitlines() if line.strip() not in given]
    return "\n".join(lines).strip("\n")


def _is_lock(mine, cell) -> bool:
    return key_of(mine) == key_of(cell) or (key_of(mine) is None and _same_text(mine, cell))


def _own_cells(notebook, source, stubs, taken: dict[int, str]) -> dict[str, list[Part]]:
    """Return the code that the learner added or changed, by the lab's cell that it follows (or "before" one)."""
    locked = {key_of(cell): cell for cell in source.cells if role_of(cell).get("locked")}
    solutions = {key_of(cell) for cell in source.cells if role_of(cell).get("solution")}
    ids = {cell.get("id"): cell for cell in source.cells if cell.get("id") and key_of(cell) is None}
    given = {cell.source.strip() for cell in source.cells if key_of(cell) is None or key_of(cell) in locked}
    given |= {visible_source(cell.source).strip() for cell in locked.values()} | {""}
    given |= {text.strip() for text in stubs.values()}
    own: dict[str, list[Part]] = {}
    last, seen = "", set()
    for cell in notebook.cells:
        name = taken.get(id(cell)) or key_of(cell)
        place = name if name in locked or id(cell) in taken else cell.get("id") if cell.get("id") in ids else None
        seen |= {name} if id(cell) in taken else set()
        code = _own_code(cell, locked.get(name), id(cell) in taken)
        if code.strip() and code.strip() not in given:
            where = place or last
            if name in locked and role_of(locked[name]).get("grade"):
                where = f"before {name}"  # what was added to a check is there before it is checked
            elif name in solutions and place is None:
                where = name if name in seen else f"before {name}"  # another half of a cell that was split
            own.setdefault(where, []).append(Part("own", "own", code, code))
        last = place or last
    for number, part in enumerate((part for parts in own.values() for part in parts), start=1):
        part.name = f"own-{number}"
    return own


def _own_code(cell, locked, taken: bool) -> str:
    """Return what the learner's code adds to the lab in one cell of the notebook."""
    if cell.cell_type != "code" or taken:
        return ""
    return cell.source if locked is None else _added(cell, locked)


def _part(cell, chosen, stubs) -> Part:
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
