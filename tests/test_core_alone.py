"""The core can be taken home: it works with its own requirements alone, and says what the rest would need."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LEFT_OUT = {"accelerate", "peft", "umap", "sklearn", "skimage", "scipy", "nbgrader", "ipywidgets", "jupyterlab"}
WORK = """
import sdlab, torch
from sdlab import draw, load_pipeline, show_images, denoising_steps
from sdlab.figures import draw_unet, show_heat_maps
from sdlab.instruments import (count_flops, edit_attention, edit_skips, record_attention, record_features, unet_table)
from sdlab.steering import Hypernetwork, outline, use_hypernetwork, use_lora, SHIPPED
pipe = load_pipeline("pocket", device="cpu")
with record_attention(pipe, prompt="a man with blue eyes") as maps, record_features(pipe, "mid_block") as features:
    picture = draw(pipe, "a man with blue eyes", num_inference_steps=2)
assert maps.heat_map("eyes").ndim >= 2
assert len(features.timesteps) == len(maps.timesteps)
with edit_skips(pipe, lambda skip: 0 * skip, [11]):
    assert draw(pipe, "a man with blue eyes", num_inference_steps=2).tobytes() != picture.tobytes()
*_, last = denoising_steps(pipe, "a man with blue eyes", num_inference_steps=2)
assert len(show_images(picture, alt="a man").to_base64()) > 1000
assert "mid_block" in repr(unet_table(pipe))
with use_hypernetwork(pipe, Hypernetwork.load(SHIPPED["hypernetwork"])):
    draw(pipe, "Momo the cat", num_inference_steps=2)
for attempt in (lambda: outline(picture), lambda: use_lora(pipe, SHIPPED["lora"]).__enter__()):
    try:
        attempt()
    except sdlab.SdlabError as error:
        print(error)
try:
    import sdcourse.cli
except ImportError:
    raise SystemExit("the command line must come with the core")
"""


def closure(specs: list[str]) -> set[str]:
    """Return the distributions that ``specs`` bring along, by name, as they are installed here."""
    found, left = set(), [Requirement(spec) for spec in specs]
    while left:
        requirement = left.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # another platform's
        found.add(name)
        left += [Requirement(line) for line in lines]
    return found


@pytest.fixture(scope="module")
def core_only(tmp_path_factory) -> Path:
    """A site-packages folder that holds what the core requires and nothing else, as links."""
    folder = tmp_path_factory.mktemp("core") / "site-packages"
    folder.mkdir()
    for name in closure(PROJECT["dependencies"]):
        for file in metadata.distribution(name).files or []:
            first = Path(file.parts[0])
            if first.name not in ("..", "__pycache__", "bin") and not (folder / first).exists():
                (folder / first).symlink_to(Path(metadata.distribution(name).locate_file(first)).resolve())
    return folder


def test_the_core_requires_nothing_of_the_course(core_only):
    there = {entry.name for entry in core_only.iterdir()}
    assert {"torch", "diffusers", "transformers", "safetensors", "PIL"} <= there
    assert not LEFT_OUT & there


def test_the_core_works_with_its_own_requirements_alone(core_only, tmp_path):
    paths = f"import sys; sys.path[:0] = [{str(ROOT / 'utils')!r}, {str(core_only)!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", paths + WORK]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    outline, lora = run.stdout.splitlines()[-2:]
    assert outline == "An outline needs the package scikit-image: pip install scikit-image, or 'sdlab[course]'."
    assert lora == "A LoRA needs the package peft: pip install peft, or 'sdlab[course]'."
