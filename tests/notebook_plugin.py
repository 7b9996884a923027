"""What nbval does not look at: pictures, what an unsolved lab raises, and cells whose digits it is told to ignore.

Load it with ``-p notebook_plugin``. nbval compares what a cell says to the last digit. A cell whose digits are the
processor's own has the tag ``nbval-ignore-output``, and is compared here instead: the same words, numbers within a
tenth, pictures as ever. One that also has the tag ``measures-time`` shows seconds of this machine: only its words and
the number of its pictures are compared; so it is with ``another-map``, where every processor comes to another map of
the same points and the cell asserts what all of them show. Widgets are not stored, and not compared.

(Hooks in tests/conftest.py reach the tests in that folder only, not the notebooks in others.)
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, NbCellError

import nursery
from notebook_images import LARGEST_DIFFERENCE, compare_pictures, count_pictures, picture_distance
from notebook_texts import compare_numbers, compare_words, text_distance
from sdcourse.notebooks import WIDGET_VIEW

OWN_NUMBERS = {"measures-time", "another-map"}
HANGING_SECONDS = 600  # no cell takes as long, on the slowest and busiest machine


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Have all kernels forked from one process that has imported the libraries, where that is possible."""
    if not config.option.nbval_current_env or not nursery.possible():
        return
    if not hasattr(config, "workerinput"):
        folder = Path(tempfile.mkdtemp(prefix="kernels-"))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.add_cleanup(nursery.Nursery(folder).close)
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("JUPYTER_PATH")]))
    config.option.nbval_current_env, config.option.nbval_kernel_name = False, nursery.NAME


def errors_but_unsolved(outputs) -> str:
    """Return what a cell of an unsolved lab raised, other than that it is not solved."""
    names = [output.ename for output in outputs if output.output_type == "error"]
    return ", ".join(name for name in names if name != "NotAttempted")


def without_widgets(outputs) -> list:
    """Return the outputs that are stored: all but widgets."""
    return [output for output in outputs if WIDGET_VIEW not in output.get("data", {})]


def compare(cell, fresh) -> str:
    """Return what differs between a cell's stored outputs and the fresh ones beyond its tags; empty if nothing does."""
    tags, stored, fresh = cell.metadata.get("tags", []), cell.outputs, without_widgets(fresh)
    if OWN_NUMBERS & set(tags):
        return compare_words(stored, fresh) or count_pictures(stored, fresh)
    if "nbval-ignore-output" in tags:
        return compare_words(stored, fresh) or compare_numbers(stored, fresh) or compare_pictures(stored, fresh)
    return compare_pictures(stored, fresh)


def distances(cell, fresh) -> list[tuple[str, float]]:
    """Return how far pictures and numbers are from the stored ones, in shares of what is allowed."""
    if OWN_NUMBERS & set(cell.metadata.get("tags", [])):
        return []
    stored, fresh = cell.outputs, without_widgets(fresh)
    found = [("pictures", picture_distance(stored, fresh) / LARGEST_DIFFERENCE)]
    return [*found, ("numbers", text_distance(stored, fresh))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After nbval has run a cell once: hold its outputs against the stored ones, or look at what a lab raised."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    item.output_timeout = HANGING_SECONDS
    try:
        result = yield
    finally:
        if not item.config.option.nbval_lax and "labs" not in Path(item.path).parts:
            item.user_properties += distances(item.cell, item.test_outputs or [])
    fresh = item.test_outputs or []
    if "labs" in Path(item.path).parts:
        problem = errors_but_unsolved(fresh)
    elif item.config.option.nbval_lax:
        return result
    else:
        problem = compare(item.cell, fresh)
    if problem:
        raise NbCellError(item.cell_num, problem, item.cell.source)
    return result
