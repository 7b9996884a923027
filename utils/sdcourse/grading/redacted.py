"""What a learner's code may see of a lab's checks: the helpers that the lab itself names, and no reference, no mistake.

In a room these texts stand in the place of ``sdcourse/checks/lab_NN.py``. ``check.exercise(...)`` in the notebook then says
that the exercise is checked elsewhere.
"""

import ast
import functools
import re
from pathlib import Path

from .. import checks

FOLDER = Path(checks.__file__).parent
_STAND_IN = """

class _LeftToTheGrader(Lab):
    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *answers, **options: print(f"· {name}: checked by the grader.")


check.__class__ = _LeftToTheGrader
"""


def stand_ins(given: str, folder: Path) -> dict[Path, Path]:
    """Write to ``folder`` what stands in for the labs' checks; return {file of the package: file in its place}.

    given: the text of the lab as it was given out; what it names of the checks, beside the exercises, stays.
    """
    written = {}
    for file in sorted(FOLDER.glob("lab_[0-9][0-9].py")):
        place = folder / file.name
        place.write_text(redacted(file.read_text(encoding="utf-8"), given if f"checks.{file.stem}" in given else ""))
        written[file] = place
    return written


@functools.lru_cache(maxsize=32)
def redacted(source: str, given: str) -> str:
    """Return the source of a lab's checks without exercises and references, and with the helpers that ``given`` names."""
    tree = ast.parse(source)
    judges = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _is_judge(node)}
    references = {one.id for node in tree.body if isinstance(node, ast.FunctionDef) for one in _reference(node)}
    imported = set(re.findall(r"\w+", " ".join(re.findall(r"^from \S*checks\.lab_\d\d import (.+)$", given, re.MULTILINE))))
    words = set(re.findall(r"\w+", given))
    kept = {"check"} | {node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name in words}
    kept |= {name for name in words if name not in judges and (name not in references or name in imported)}
    nodes = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name in judges)]
    wanted = _closure(nodes, kept)
    body = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) or _stored(node) & wanted]
    return ast.unparse(ast.Module(body, [])) + _STAND_IN


def _closure(nodes: list, wanted: set[str]) -> set[str]:
    """Return the names that ``wanted`` need, and those that these need, and so on."""
    wanted, size = set(wanted), -1
    while size != len(wanted):
        size = len(wanted)
        for node in nodes:
            if _stored(node) & wanted:
                wanted |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return wanted


def _stored(node) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _is_judge(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).startswith("check.") for decorator in node.decorator_list)


def _reference(node: ast.FunctionDef) -> list[ast.Name]:
    calls = [one for one in node.decorator_list if isinstance(one, ast.Call) and _is_judge(node)]
    return [call.args[0] for call in calls if call.args and isinstance(call.args[0], ast.Name)]
