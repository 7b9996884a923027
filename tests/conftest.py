"""Fixtures that several test files share."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def same_threads():
    """No test may leave torch with more threads than it found: the tests after it would crawl on a busy machine."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        assert sys.modules["torch"].get_num_threads() == before


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


@pytest.fixture(scope="session")
def pocket():
    """The pocket model; all tests of a process share it, and must leave it as it was."""
    from sdlab import load_pipeline

    return load_pipeline("pocket", device="cpu")


@pytest.fixture(scope="session")
def sd15(tmp_path_factory):
    """A pipeline with random weights and every block of SD 1.5."""
    from tiny_pipeline import sd15_shaped

    return sd15_shaped(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory):
    """A pipeline with random weights and every block of SDXL."""
    from tiny_pipeline import sdxl_shaped

    return sdxl_shaped(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(params=["pocket", "sd15", "sdxl"])
def pipe(request):
    """Each of the three pipelines in turn."""
    return request.getfixturevalue(request.param)
