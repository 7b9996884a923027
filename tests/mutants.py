"""Change every solution in one place after the other, and list what the checks let pass: ``tests/mutants.py 04``.

A mutant is the solution with one number, operator, comparison or constant changed, one statement left out, or one
argument swapped. Survivors are judged by a person: the same function, within the tolerance, or a hole in the check.
``JUDGED`` holds those that were found to be the same function; the tool exits with 1 if there is another one.
"""

import argparse
import ast
import contextlib
import copy
import io
import signal
import sys

from lab_notebooks import NAMES, answers_in, checked, checks_of, read

SECONDS = 60  # for one mutant; what takes longer is caught by the grader's clock
PAIRS = [(ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq),
         (ast.And, ast.Or), (ast.UAdd, ast.USub), (ast.FloorDiv, ast.Mod)]  # fmt: skip
SWAPS = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])} | {ast.Pow: ast.Mult}
JUDGED: dict[str, set[str]] = {}


def mutants_of(source: str):
    """Yield (what was changed, source) of every mutant of a function's source."""
    tree = ast.parse(source)
    count = sum(1 for _ in ast.walk(tree))
    for place in range(count):
        for choice in range(3):
            changed = copy.deepcopy(tree)
            node = list(ast.walk(changed))[place]
            said = _mutate(node, choice)
            if said:
                yield f"line {getattr(node, 'lineno', '?')}: {said}", ast.unparse(changed)


def _mutate(node, choice: int) -> str | None:
    """Change a node in place, in the way ``choice``; return what was done, or None where there is no such way."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        new = [node.value + 1, node.value - 1, -node.value if node.value else 2][choice]
        said, node.value = f"{node.value} -> {new}", new
        return said
    if isinstance(node, ast.Constant) and type(node.value) is bool and choice == 0:
        node.value = not node.value
        return f"-> {node.value}"
    if choice == 0 and isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp) and type(node.op) in SWAPS:
        before, node.op = type(node.op).__name__, SWAPS[type(node.op)]()
        return f"{before} -> {type(node.op).__name__}"
    if choice == 1 and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Div | ast.Pow):
        node.left, node.right = node.right, node.left
        return f"sides of {type(node.op).__name__} swapped"
    if choice == 0 and isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        before, node.ops[0] = type(node.ops[0]).__name__, SWAPS[type(node.ops[0])]()
        return f"{before} -> {type(node.ops[0]).__name__}"
    if choice == 0 and isinstance(node, ast.Call) and len(node.args) >= 2:
        node.args[0], node.args[1] = node.args[1], node.args[0]
        return f"arguments of {ast.unparse(node.func)} swapped"
    body = getattr(node, "body", None)
    if choice == 2 and isinstance(node, ast.FunctionDef | ast.For | ast.If) and len(body) > 1:
        gone = body.pop(-2)
        if isinstance(gone, ast.Expr) and isinstance(gone.value, ast.Constant):
            return None  # a docstring: the function is the same without it
        return f"left out: {ast.unparse(gone)[:60]}"
    return None


def is_right(name: str, exercise: str, answer, *, seeds=(0, 100, 101)) -> bool:
    """Say whether the checks of a lab let an answer pass, on the visible inputs and on hidden ones."""

    def too_long(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for seed in seeds:
                getattr(checks_of(name), exercise)(answer, seed=seed, hidden=seed > 0)
        return True
    except Exception:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def survivors_of(name: str, *, only: str | None = None, most: int | None = None):
    """Yield (exercise, what was changed) of the mutants of a lab's solution that its checks let pass."""
    notebook = read("solutions", name)
    names = answers_in(notebook)
    for exercise, function in checked(notebook).items():
        if only not in (None, exercise):
            continue
        cell = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == function)
        tried = 0
        for said, source in mutants_of(cell.source):
            if most is not None and tried >= most:
                break
            tried += 1
            mine = dict(names)
            try:
                exec(compile(source, f"<{function}>", "exec"), mine)
            except Exception:
                continue
            if is_right(name, exercise, mine[function]):
                yield exercise, said
        print(f"{name[:2]} {exercise}: {tried} mutants", file=sys.stderr)


def main() -> int:
    """Print the survivors of the labs named; return 1 if one of them has not been judged."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labs", nargs="*", help="numbers of labs (all)")
    parser.add_argument("--exercise", help="only this one")
    parser.add_argument("--most", type=int, help="mutants of one exercise at most")
    options = parser.parse_args()
    new = 0
    for name in NAMES:
        if options.labs and name[:2] not in options.labs:
            continue
        for exercise, said in survivors_of(name, only=options.exercise, most=options.most):
            known = said in JUDGED.get(exercise, set())
            new += not known
            print(f"{name[:2]} {exercise}: {'judged' if known else 'SURVIVES'}: {said}")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
