"""What nbval does not look at: pictures, and what an unsolved lab raises. Load it with ``-p notebook_plugin``.

(Hooks in tests/conftest.py reach the tests in that folder only, not the notebooks in others.)
"""

from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, NbCellError

from notebook_images import compare_pictures


def errors_but_unsolved(outputs) -> str:
    """Return what a cell of an unsolved lab raised, other than that it is not solved."""
    names = [output.ename for output in outputs if output.output_type == "error"]
    return ", ".join(name for name in names if name != "NotAttempted")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After nbval has run a cell once: hold its pictures against the stored ones, or look at what a lab raised."""
    result = yield
    if isinstance(item, IPyNbCell) and "labs" in Path(item.path).parts:
        problem = errors_but_unsolved(item.test_outputs or [])
    elif isinstance(item, IPyNbCell) and item.options["check"]:
        problem = compare_pictures(item.cell.outputs, item.test_outputs or [])
    else:
        return result
    if problem:
        raise NbCellError(item.cell_num, problem, item.cell.source)
    return result
