"""Fixtures, and the comparison of notebook pictures added to nbval's comparison of text."""

import shutil
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, NbCellError

from notebook_images import compare_pictures

ROOT = Path(__file__).parents[1]


def errors_but_unsolved(outputs) -> str:
    """Return what a cell of an unsolved lab raised, other than that it is not solved."""
    names = [output.ename for output in outputs if output.output_type == "error"]
    return ", ".join(name for name in names if name != "NotAttempted")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After nbval has run a cell once: hold its pictures against the stored ones, or look at what a lab raised."""
    result = yield
    if isinstance(item, IPyNbCell) and ROOT / "labs" in Path(item.path).parents:
        unexpected = errors_but_unsolved(item.test_outputs or [])
        if unexpected:
            raise NbCellError(item.cell_num, unexpected, item.cell.source)
    elif isinstance(item, IPyNbCell) and item.options["check"]:
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


@pytest.fixture(scope="module")
def pocket():
    """The pocket model; a test module shares it, and must leave it as it was."""
    from sdlab import load_pipeline

    return load_pipeline("pocket", device="cpu")


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    """A pipeline with random weights and every block of SD 1.5."""
    from tiny_pipeline import sd15_shaped

    return sd15_shaped(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    """A pipeline with random weights and every block of SDXL."""
    from tiny_pipeline import sdxl_shaped

    return sdxl_shaped(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(params=["pocket", "sd15", "sdxl"])
def pipe(request):
    """Each of the three pipelines in turn."""
    return request.getfixturevalue(request.param)
