"""The repository is what it says: layout, specs, sizes, no pickles, nothing of one machine."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGE = ROOT / "utils" / "sdlab"
IGNORED = {
    ".git",
    ".venv",
    "runs",
    "grading",
    "build",
    "dist",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    "sdlab.egg-info",
}
TEXT = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".cfg", ".ipynb", ".json", ""}


def project_files() -> list[Path]:
    files = [file for file in ROOT.rglob("*") if file.is_file()]
    return [file for file in files if not IGNORED & set(file.relative_to(ROOT).parts)]


def test_the_top_level_holds_what_it_should():
    expected = {
        "README.md",
        "environment.yml",
        "course",
        "labs",
        "solutions",
        "utils",
        "tests",
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "LICENSE",
        ".github",
        ".ci",
        ".gitignore",
    }
    assert expected <= {entry.name for entry in ROOT.iterdir()}


def test_environment_yml_has_the_specs_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    extras = PROJECT["optional-dependencies"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    wanted = {*PROJECT["dependencies"], *(spec for name in ("course", "lab", "test") for spec in extras[name]), "-e ."}
    assert sorted(pip) == sorted(wanted - {"sdlab[course]"})
    assert "python=3.11" in environment["dependencies"]


def test_constraints_pin_every_requirement_without_an_index_address():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
    pinned = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    specs = [*PROJECT["dependencies"], *(spec for extra in PROJECT["optional-dependencies"].values() for spec in extra)]
    wanted = [re.match(r"[\w.-]+", spec).group() for spec in specs if spec != "sdlab[course]"]
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} <= pinned


def test_ci_tests_every_python_that_is_promised():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()


def test_there_are_no_pickles():
    pickles = {".pt", ".pth", ".bin", ".pkl", ".ckpt", ".npy", ".joblib"}
    assert [file for file in project_files() if file.suffix in pickles] == []


def test_the_package_with_its_weights_is_smaller_than_45_megabytes():
    files = [file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) < 45_000_000


def test_every_shipped_weight_file_is_listed_with_its_hash():
    indices = PACKAGE.glob("models/**/weights.json")
    listed = {index.parent / name for index in indices for name in json.loads(index.read_text())}
    assert set(PACKAGE.glob("models/**/*.safetensors")) == listed


def test_no_file_names_a_path_of_one_machine_or_a_package_index():
    machine = re.compile(r"/(?:home|Users|root|work)/\w+|ipykernel_\d+|(?:extra-)?index-url|file:///opt")
    found = []
    for file in project_files():
        if file.suffix in TEXT and file.stat().st_size < 3_000_000 and file.parent.name != "tests":
            match = machine.search(file.read_text(encoding="utf-8", errors="replace"))
            found += [f"{file.relative_to(ROOT)}: {match.group()}"] if match else []
    assert found == []


def test_links_between_the_pages_lead_somewhere():
    broken = []
    for page in [file for file in project_files() if file.suffix == ".md"]:
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        local = [link for link in links if not re.match(r"\w+:", link)]
        broken += [f"{page.name}: {link}" for link in local if not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("command", ["lab", "test", "test-all", "outputs", "book", "clean"])
def test_make_knows_the_command(command):
    run = subprocess.run(["make", "--dry-run", command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.fixture
def bare(tmp_path) -> Path:
    """A folder with what make needs to build an environment, and none yet."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def installed_by(goal: str, folder: Path) -> str:
    run = subprocess.run(["make", "--dry-run", goal], cwd=folder, capture_output=True, text=True, check=True)
    return " ".join(re.findall(r"pip install .* -e ('\S+')", run.stdout))


def test_each_command_installs_only_what_it_needs(bare):
    assert installed_by("lab", bare) == "'.[lab]'"
    assert installed_by("env", bare) == "'.[lab]'"
    assert installed_by("test", bare) == "'.[lab,test]'"
    assert installed_by("book", bare) == "'.[book]'"


def test_what_is_installed_is_not_installed_again(bare):
    (bare / ".venv").mkdir()
    (bare / ".venv" / "installed-lab").touch()
    assert installed_by("lab", bare) == ""
    assert installed_by("test", bare) == "'.[lab,test]'"


@pytest.mark.slow
def test_an_environment_without_pip_is_said_and_made_again_and_a_whole_one_is_left_alone(bare):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare / ".venv")], check=True)
    (bare / ".venv" / "installed-lab").touch()
    make = ["make", "environment", f"PYTHON={sys.executable}"]
    run = subprocess.run(make, cwd=bare, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr.strip() == ".venv was not whole (no Python in it, or no pip): it is made again."
    assert not (bare / ".venv" / "installed-lab").exists()
    subprocess.run([bare / ".venv" / "bin" / "python", "-c", "import pip"], check=True)
    (bare / ".venv" / "installed-lab").touch()
    run = subprocess.run(make, cwd=bare, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert (bare / ".venv" / "installed-lab").exists()


def test_make_lab_opens_lesson_00():
    run = subprocess.run(
        ["make", "--dry-run", "lab", "LAB_ARGS=--no-browser"], cwd=ROOT, capture_output=True, text=True
    )
    assert "--no-browser course/00_the_whole_picture.ipynb" in run.stdout


def test_the_readme_says_of_every_lesson_what_the_lesson_says_of_itself():
    readme = (ROOT / "README.md").read_text()
    for file in sorted((ROOT / "course").glob("[0-9]*.ipynb")):
        first = "".join(json.loads(file.read_text())["cells"][0]["source"])
        minutes = re.search(r"(\d+) minutes", first)[1]
        number, stem = file.stem[:2], file.stem
        row = next(line for line in readme.splitlines() if line.startswith(f"| [{number}](course/{stem}.ipynb)"))
        assert f"| {minutes} |" in row, f"lesson {number} says {minutes} minutes; the README: {row}"
        assert number == "00" or f"[lab](labs/{stem}/{stem}.ipynb)" in row, row


def test_the_readme_is_short_enough_to_be_read():
    assert 100 <= len((ROOT / "README.md").read_text().splitlines()) <= 150
