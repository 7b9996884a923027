"""Look at everything the course needs on this computer, and say what to do where something is missing."""

import platform
import re
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sdlab import SdlabError

PYTHONS = ((3, 11), (3, 14))


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report; ``remedy`` is empty where all is well."""

    name: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok ' if not self.remedy else 'BAD'} {self.name:<20} {self.found}"
        return f"{line}\n    -> {self.remedy}" if self.remedy else line


def examine() -> list[Check]:
    """Return all checks: Python, packages, device, shipped weights, and the seconds one picture takes."""
    checks = [check_python(), *check_packages()]
    if all(not check.remedy for check in checks):
        checks += [check_device(), *check_models(), check_drawing()]
    return checks


def check_python() -> Check:
    """Compare the running Python with the versions the course is tested on."""
    lowest, above = PYTHONS
    good = lowest <= sys.version_info[:2] < above
    remedy = "" if good else "use Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 lab"
    return Check("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", remedy)


def check_packages() -> list[Check]:
    """Compare each package that sdlab requires with the version range it was made for."""
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in required_packages()]
    return [_check_package(requirement) for requirement in requirements]


def required_packages() -> list[str]:
    """Return what core and course require, from pyproject.toml beside the sources or from the installed package."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        import tomllib

        found = tomllib.loads(project.read_text())["project"]
        return [*found["dependencies"], *found["optional-dependencies"]["course"]]
    lines = [line.partition(";") for line in metadata.requires("sdlab") or []]
    return [line.strip() for line, _, marker in lines if not marker or re.search(r"extra == .course.", marker)]


def _check_package(requirement) -> Check:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Check(requirement.name, "not installed", f"pip install '{requirement}'")
    good = requirement.specifier.contains(found, prereleases=True)
    return Check(requirement.name, found, "" if good else f"pip install '{requirement}'")


def check_device() -> Check:
    """Name the device that pictures will be drawn on, and its free memory."""
    import torch

    from sdlab.pipeline import choose_device, free_memory

    device = choose_device()
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return Check("device", f"{device} ({name}), {free_memory(device) / 1e9:.1f} GB free")


def check_models() -> list[Check]:
    """Compare the SHA-256 of every weight file that ships with the package."""
    from sdlab.weights import HASHES, MODELS_FOLDER

    return [_check_model(file.parent) for file in sorted(MODELS_FOLDER.rglob(HASHES))]


def _check_model(folder: Path) -> Check:
    from sdlab.weights import verify_weights

    try:
        return Check(f"model {folder.name}", f"{verify_weights(folder)} weight files, all as shipped")
    except SdlabError as error:
        return Check(f"model {folder.name}", "not usable", str(error))


def check_drawing() -> Check:
    """Draw a picture twice with the pocket model and time the second one."""
    from sdlab import draw, load_pipeline
    from sdlab.drawing import DEFAULT_STEPS

    try:
        pipe = load_pipeline("pocket")
        draw(pipe, "a man with blue eyes", num_inference_steps=2)
        start = time.perf_counter()
        draw(pipe, "a man with blue eyes")
        return Check("drawing", f"{time.perf_counter() - start:.1f} s a picture ({DEFAULT_STEPS} steps)")
    except SdlabError as error:
        return Check("drawing", "no picture", str(error))
