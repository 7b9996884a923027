"""Fixtures, and the comparison of notebook pictures added to nbval's comparison of text."""

import shutil
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, NbCellError

from notebook_images import compare_pictures

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After nbval has run a cell once, hold its pictures against the stored ones."""
    result = yield
    if isinstance(item, IPyNbCell) and item.options["check"]:
        problem = compare_pictures(item.cell.outputs, item.test_outputs or [])
        if problem:
            raise NbCellError(item.cell_num, problem, item.cell.source)
    return result


@pytest.fixture(scope="session")
def tiny_pipeline_original(tmp_path_factory) -> Path:
    """A StableDiffusionPipeline folder with random weights, shared by all tests: read it, do not change it."""
    from sdlab.weights import write_hashes
    from tiny_pipeline import save_tiny_pipeline

    folder = save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model")
    write_hashes(folder)
    return folder


@pytest.fixture
def tiny_pipeline_folder(tiny_pipeline_original, tmp_path) -> Path:
    """A copy of the tiny pipeline folder that a test may damage."""
    return Path(shutil.copytree(tiny_pipeline_original, tmp_path / "model"))
