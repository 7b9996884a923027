"""Run tests and lessons with the oldest, the newest or Colab's versions of the libraries, in a new environment.

    python tests/library_range.py oldest       # the lowest versions that pyproject.toml allows
    python tests/library_range.py newest       # the highest
    python tests/library_range.py colab        # what Google Colab had when this list was made

Other versions draw pictures that differ in their last digits, and stored texts with them; so the lessons and labs are
run for their assertions (nbval-lax), and not compared with what is stored.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGED = ("torch", "diffusers", "transformers", "accelerate", "peft")
# Read off Colab's published package list of 2026-08-19 (Python 3.13): what matters here; the rest is the newest
COLAB = ("torch==2.11.*", "diffusers==0.39.*", "transformers==5.15.*", "accelerate==1.14.*", "numpy==2.1.*",
         "ipython==7.34.*", "ipywidgets==7.7.1")  # fmt: skip
# Colab grades nothing and serves no JupyterLab of ours; its old IPython keeps nbgrader away
COLAB_TOOLS = ("ipykernel", "nbformat", "nbclient", "nbval", "pytest", "pytest-xdist", "pyyaml")
COLAB_TESTS = ("test_colab.py", "test_stubs.py", "test_widgets.py", "test_plotting.py", "test_pipeline.py",
               "test_checks.py", "test_compare.py", "test_steering.py", "test_attention.py")  # fmt: skip


def lowest(spec: str) -> str:
    """Return the lowest version that a requirement allows, whatever its last number.

    >>> lowest("diffusers>=0.39,<0.43")
    'diffusers==0.39.*'
    """
    name, version = re.match(r"([\w-]+)>=([\d.]+)", spec).groups()
    return f"{name}=={version}.*"


def requirements(which: str, pins: list[str]) -> list[str]:
    """Return what to install for ``which``; ``pins`` ("torch==2.13.0") replace versions of the list."""
    extras = PROJECT["optional-dependencies"]
    specs = {re.match(r"[\w-]+", spec)[0]: spec for spec in [*PROJECT["dependencies"], *extras["course"]]}
    tools = COLAB_TOOLS if which == "colab" else [spec for spec in extras["test"] if spec != "sdlab[course]"]
    chosen = {"oldest": [lowest(specs[name]) for name in RANGED], "newest": [], "colab": COLAB}[which]
    for pin in (*chosen, *pins):
        specs[re.match(r"[\w-]+", pin)[0]] = pin
    return [*specs.values(), *tools]


def run(command: list, **options) -> int:
    """Run a command of the new environment in the checkout; return its exit code."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | options
    print("+", *map(str, command), flush=True)
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=environment).returncode


def install(folder: Path, which: str, pins: list[str]) -> Path:
    """Make the environment; return its Python."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = requirements(which, pins)
    if run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]):
        sys.exit("These versions cannot be installed together here: " + ", ".join(wanted))
    if run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-e", ROOT]):
        sys.exit("The course itself cannot be installed.")
    return python


def test(python: Path, which: str) -> int:
    """Run the unit tests, then lessons and labs for their assertions; return the worst exit code."""
    names = (*RANGED, "numpy", "ipython")
    run([python, "-c", f"import importlib.metadata as m; print(*(f'{{n}} {{m.version(n)}}' for n in {names}))"])
    path = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    pytest = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    names = [f"tests/{name}" for name in COLAB_TESTS] if which == "colab" else ["tests"]
    codes = [run([*pytest, "-m", "not slow", *names], **path)]
    path["PYTHONPATH"] = str(ROOT / "tests")
    lax = ["-p", "notebook_plugin", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"]
    codes.append(run([*pytest, *lax, "course", "labs"], **path))
    return max(codes)


def main(argv: list[str] | None = None) -> int:
    """Install and test; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("oldest", "newest", "colab"))
    parser.add_argument("--folder", type=Path, help="of the environment (default build/range-WHICH)")
    parser.add_argument("--pin", action="append", default=[], metavar="NAME==VERSION", help="take this one instead")
    options = parser.parse_args(argv)
    folder = (options.folder or ROOT / "build" / f"range-{options.which}").resolve()
    return test(install(folder, options.which, options.pin), options.which)


if __name__ == "__main__":
    sys.exit(main())
