"""The cell for Colab: with a google.colab that is not Colab's, a clone of this repository, and an empty folder."""

import json
import os
import subprocess
import sys
import textwrap

import nbformat
import pytest

from conftest import ROOT
from sdcourse.cli import main
from sdcourse.colab import bootstrap, is_bootstrap, place_cell, place_cells, settings_of
from sdcourse.notebooks import find_notebooks

NOTEBOOKS = find_notebooks([ROOT / folder for folder in ("course", "solutions", "labs")])
IN_COLAB = """
import importlib.machinery, sys, types
for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
"""


def folder_of(file) -> str:
    return file.relative_to(ROOT).parent.as_posix().replace("solutions", "labs")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: f"{file.relative_to(ROOT).parts[0]}-{file.stem[:2]}")
def test_every_notebook_begins_with_the_cell_for_colab(file):
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    notebook = nbformat.read(file, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert is_bootstrap(cells[0]), "run: sdlab colab"
    address, branch = settings_of(first)
    assert cells[0].source == bootstrap(folder_of(file), address=address, branch=branch), "run: sdlab colab"
    assert sum(map(is_bootstrap, cells)) == 1
    assert ("[Open in Colab](" in notebook.cells[0].source) == bool(address)


def run(code: str, folder, address: str):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"SDLAB_REPOSITORY": address, "OMP_NUM_THREADS": "1"}
    # a machine on which sdlab is not installed, but everything else is
    left_out = {str(ROOT), str(ROOT / "utils"), str(ROOT / "tests")}
    head = f"import sys\nsys.path[:] = [path for path in sys.path + {sys.path!r} if path not in {left_out!r}]\n"
    head += "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def packages() -> str:
    command = [sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """This checkout as it would be published: committed, in a repository of its own."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy is no git checkout")
    folder = tmp_path_factory.mktemp("published") / "repository"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(folder)], check=True)
    changed = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    if changed:
        subprocess.run(["git", "apply", "-"], cwd=folder, input=changed, check=True)
    new = subprocess.run(["git", "ls-files", "-o", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in new.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "Test"], cwd=folder, check=True)
    subprocess.run(["git", "branch", "--quiet", "-M", "main"], cwd=folder, check=True)
    return f"file://{folder}"


def test_in_an_empty_colab_the_cell_brings_a_course_that_draws_and_may_run_twice(published, tmp_path):
    before = packages()
    cell = bootstrap("course")
    code = f"""
        exec({IN_COLAB!r})
        for _ in range(2):
            exec({cell!r})
        import os, sdlab
        pipe = sdlab.load_pipeline()
        image = sdlab.draw(pipe, "a cat", num_inference_steps=2)
        print(os.getcwd()); print(sdlab.__file__); print(image.size)
    """
    done = run(code, tmp_path, published)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-3:] == [
        str(tmp_path / "inside-stable-diffusion" / "course"),
        str(tmp_path / "inside-stable-diffusion" / "utils" / "sdlab" / "__init__.py"),
        "(128, 128)",
    ]
    assert said[0].startswith("The course is in inside-stable-diffusion;") and len(said) == 4
    assert packages() == before
    again = run(code, tmp_path, "file:///nowhere")  # a new kernel: what is there is not fetched again
    assert again.returncode == 0 and "fatal" not in again.stderr
    assert again.stdout.splitlines()[1:] == said[1:]  # the first line names the memory that is free just now


def test_outside_colab_the_cell_does_nothing(tmp_path):
    done = run(f"exec({bootstrap('course')!r})\nprint('done')", tmp_path, "file:///nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_address_is_said_in_one_sentence(tmp_path):
    done = run(f"exec({IN_COLAB!r})\nexec({bootstrap('course')!r})", tmp_path, "file:///nowhere")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "RuntimeError: The course cannot be fetched from file:///nowhere, main."


def test_a_copy_that_is_not_published_says_so(tmp_path):
    code = f"exec({IN_COLAB!r})\nimport os; del os.environ['SDLAB_REPOSITORY']\nexec({bootstrap('course')!r})"
    done = run(code, tmp_path, "")
    assert "The course cannot be fetched from nowhere (not published), main." in done.stderr.splitlines()[-1]


def test_other_versions_are_reported_and_nothing_is_installed(monkeypatch, tmp_path, capsys):
    from sdcourse import colab, doctor

    monkeypatch.chdir(tmp_path)
    odd = [doctor.Check("peft", "0.1", "pip install 'peft>=0.18'"), doctor.Check("numpy", "2.1")]
    monkeypatch.setattr(doctor, "check_packages", lambda: odd)
    colab.start("course")
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("peft 0.1: not what the course was made for") and "peft>=0.18" in said


def small_checkout(folder):
    for name in ("course", "solutions/01_a", "labs"):
        (folder / name).mkdir(parents=True)
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1", execution_count=1)]
    for name in ("course/01_a.ipynb", "solutions/01_a/01_a.ipynb"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    return folder


def test_an_address_is_written_into_all_notebooks_and_taken_out_again(tmp_path):
    root = small_checkout(tmp_path)
    address = "https://github.com/somebody/a-course"
    assert len(place_cells(root)) == 2
    before = {file: file.read_bytes() for file in root.rglob("*.ipynb")}
    assert len(place_cells(root, address=address, branch="v1")) == 2
    assert place_cells(root, address=address, branch="v1") == []
    lesson = nbformat.read(root / "course/01_a.ipynb", as_version=4)
    link = "[Open in Colab](https://colab.research.google.com/github/somebody/a-course/blob/v1/course/01_a.ipynb)"
    assert lesson.cells[0].source == f"# Title\n\n{link}"
    assert settings_of(lesson) == (address, "v1")
    assert [cell.get("execution_count") for cell in lesson.cells] == [None, 1, 2]
    solution = (root / "solutions/01_a/01_a.ipynb").read_text()
    assert "blob/v1/labs/01_a/01_a.ipynb" in solution and 'start(\\"labs/01_a\\")' in solution
    assert place_cells(root) == []  # what stands there stays
    place_cells(root, address="", branch="main")
    assert {file: file.read_bytes() for file in root.rglob("*.ipynb")} == before


@pytest.mark.parametrize("address", ["somebody/a-course", "https://example.org/a", "https://github.com/a/b/c"])
def test_an_address_that_colab_cannot_open_is_refused_before_anything_is_written(tmp_path, address):
    root = small_checkout(tmp_path)
    before = {file: file.read_bytes() for file in root.rglob("*.ipynb")}
    from sdlab import SdlabError

    with pytest.raises(SdlabError, match=r"Colab opens notebooks from https://github\.com/OWNER/NAME"):
        place_cells(root, address=address)
    assert {file: file.read_bytes() for file in root.rglob("*.ipynb")} == before


def test_the_command_line_refuses_a_wrong_branch_in_one_line(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["colab", "https://github.com/a/b", "--branch", "x; rm -r y"]) == 2
    assert capsys.readouterr().err.startswith("sdlab: --branch must be the name of a branch or tag")


def test_the_cell_keeps_its_place_when_it_is_placed_again():
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1")]
    once = place_cell(nbformat.v4.new_notebook(cells=cells), "course/01_a.ipynb")
    text = json.dumps([cell.source for cell in once.cells])
    twice = place_cell(once, "course/01_a.ipynb")
    assert json.dumps([cell.source for cell in twice.cells]) == text


@pytest.mark.parametrize("cells", [[nbformat.v4.new_markdown_cell("# Title")], [nbformat.v4.new_code_cell("1")]])
def test_a_notebook_that_is_no_lesson_is_named_before_anything_is_written(tmp_path, cells):
    from sdlab import SdlabError

    root = small_checkout(tmp_path)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "course/02_b.ipynb")
    before = {file: file.read_bytes() for file in root.rglob("*.ipynb")}
    with pytest.raises(SdlabError, match=r"course/02_b\.ipynb does not begin with a text and go on with code"):
        place_cells(root)
    assert {file: file.read_bytes() for file in root.rglob("*.ipynb")} == before
