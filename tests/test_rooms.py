"""The two buildings stay two: rooms import only what lies below them, and no file stands in a circle of imports."""

import ast
from functools import cache
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[1] / "utils"
# from the ground up; rooms of one row do not import each other
ROWS = [
    ("sdlab",),
    ("sdlab.instruments", "sdlab.steering"),
    ("sdlab.figures",),
    ("sdcourse.portraits",),
    ("sdcourse.judging",),
    ("sdcourse.lessons",),
    ("sdcourse.checks", "sdcourse.training"),
    ("sdcourse.grading",),
    ("sdcourse",),
]
HEIGHT = {room: height for height, row in enumerate(ROWS) for room in row}
SDLAB = {room for room in HEIGHT if room.partition(".")[0] == "sdlab"}
KEPT = {"_version"}  # of a tensor: how often it was written to, which torch itself has no other word for
MOST_FILES = 16  # in a folder of sdlab
MOST_LINES = 5_000  # of sdlab, without its models
FILES = sorted(file for name in ("sdlab", "sdcourse") for file in (UTILS / name).rglob("*.py"))
MODULES = {".".join(file.relative_to(UTILS).with_suffix("").parts).removesuffix(".__init__"): file for file in FILES}
# These start quickly, before anything heavy is imported: the command line, Colab's first cell, a lab's first cell.
LIGHT = {name for name in MODULES if name.startswith(("sdcourse.checks.lab_", "sdcourse.checks.attempt"))} | {
    "sdcourse.cli",
    "sdcourse.colab",
    "sdcourse.doctor",
    "sdcourse.gallery",
    "sdcourse.grading.classroom",
    "sdcourse.grading.command",
    "sdcourse.training.command",
}


def room_of(module: str) -> str:
    """Return the room a module stands in: the longest name of a room that it begins with."""
    return max((room for room in HEIGHT if f"{module}.".startswith(f"{room}.")), key=len)


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the modules of ours that ``module`` imports, also inside functions."""
    tree, found = ast.parse(MODULES[module].read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = source_of(node, module)
            parts = [f"{source}.{alias.name}" for alias in node.names]
            found |= {part if part in MODULES else source for part in parts}
    return frozenset(name for name in found if name in MODULES and name != module)


def source_of(node: ast.ImportFrom, module: str) -> str:
    """Return the absolute name of the module that an import statement in ``module`` names."""
    if not node.level:
        return node.module
    parts = module.split(".")
    if MODULES[module].name != "__init__.py":
        parts = parts[:-1]
    return ".".join(parts[: len(parts) - node.level + 1] + ([node.module] if node.module else []))


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_rooms_below_its_own(module):
    here = room_of(module)
    above = {
        other for other in imports_of(module)
        if room_of(other) != here and HEIGHT[room_of(other)] >= HEIGHT[here] and not is_front_door(module)
    }
    assert not above, f"{module} stands in {here} and must not import {', '.join(sorted(above))}"


def is_front_door(module: str) -> bool:
    """Say whether a module is the front door of a building, which (lazily) hands on what stands above it."""
    return module == "sdlab"


def test_sdlab_never_mentions_sdcourse():
    mine = {module: file.read_text(encoding="utf-8") for module, file in MODULES.items() if room_of(module) in SDLAB}
    named = [module for module, text in mine.items() if "sdcourse" in text]
    assert not named, f"take it home means: without the course; {', '.join(named)} name sdcourse"


def test_no_file_stands_in_a_circle_of_imports():
    done, path = set(), []

    def visit(module):
        if module in path:
            raise AssertionError(" -> ".join([*path[path.index(module) :], module]))
        if module not in done:
            path.append(module)
            for other in sorted(imports_of(module)):
                visit(other)
            done.add(path.pop())

    for module in MODULES:
        visit(module)


@pytest.mark.parametrize("module", sorted(set(MODULES) - LIGHT))
def test_imports_of_ours_stand_at_the_top(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    hidden = [
        source_of(inner, module)
        for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)
        for inner in ast.walk(node) if isinstance(inner, ast.ImportFrom)
    ]
    ours = [name for name in hidden if name and name.partition(".")[0] in ("sdlab", "sdcourse")]
    assert not ours, f"{module} hides imports of {', '.join(ours)} in functions"


PRIVATE = {"to_q", "to_k", "to_v", "up_blocks", "resnets", "prepare_extra_step_kwargs", "do_classifier_free_guidance"}


@pytest.mark.parametrize("module", sorted({name for name in MODULES if room_of(name) in SDLAB} - {"sdlab.compat"}))
def test_what_a_library_may_rename_is_known_to_compat_alone(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    of_others = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    assert not used & PRIVATE and not of_others - KEPT, f"{module}: {sorted(used & PRIVATE | of_others - KEPT)}"


def test_sdlab_is_small():
    files = [file for module, file in MODULES.items() if room_of(module) in SDLAB]
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert lines <= MOST_LINES


@pytest.mark.parametrize("folder", [room.replace(".", "/") for room in sorted(SDLAB)])
def test_a_folder_of_sdlab_is_seen_at_a_glance(folder):
    assert len(list((UTILS / folder).glob("*.py"))) <= MOST_FILES


def test_a_forbidden_import_would_be_found():
    assert room_of("sdlab.figures.unet") == "sdlab.figures"
    assert room_of("sdlab.figures_of_speech") == "sdlab"
    assert "sdlab.instruments.unet_table" in imports_of("sdlab.figures.unet")
    assert HEIGHT["sdlab.figures"] > HEIGHT["sdlab.instruments"]
