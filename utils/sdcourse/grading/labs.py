"""Make the labs from the solutions, with nbgrader, and say whether the stored ones are what would be made."""

import logging
import tempfile
from pathlib import Path

from sdlab import SdlabError

CONFIG = "nbgrader_config.py"


def find_course(start: Path | None = None) -> Path:
    """Return the course's folder, where nbgrader_config.py lies: ``start`` (by default here) or above it."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / CONFIG).is_file() and (folder / "labs").is_dir():
            return folder
    raise SdlabError(f"No {CONFIG} in {start} or above it: run this in the folder of the course.")


def lab_names(course: Path) -> list[str]:
    """Return the names of the labs that have a solution: 01_loss_and_gradient_descent, ..."""
    names = sorted(file.stem for file in (course / "solutions").glob("*/*.ipynb") if file.stem == file.parent.name)
    if not names:
        raise SdlabError(f"No solutions in {course / 'solutions'}: labs are made from them, so they are needed here.")
    return names


def lab_text(course: Path, name: str) -> str:
    """Return the lab that nbgrader makes from the solution ``name``, as the text of a notebook."""
    with tempfile.TemporaryDirectory() as folder:
        _generate(course, name, Path(folder))
        return (Path(folder) / name / f"{name}.ipynb").read_text(encoding="utf-8")


def check_can_build(course: Path) -> None:
    """Raise SdlabError where labs cannot be made: without solutions, or without nbgrader."""
    lab_names(course)
    _nbgrader()


def _nbgrader() -> tuple:
    """Import what making labs needs: (GenerateAssignment, CourseDirectory, PyFileConfigLoader)."""
    try:
        from nbgrader.converters import GenerateAssignment
        from nbgrader.coursedir import CourseDirectory
        from traitlets.config import PyFileConfigLoader
    except ImportError:
        raise SdlabError("nbgrader is needed to make labs: pip install 'sdlab[teach]'.") from None
    return GenerateAssignment, CourseDirectory, PyFileConfigLoader


def _generate(course: Path, name: str, folder: Path) -> None:
    GenerateAssignment, CourseDirectory, PyFileConfigLoader = _nbgrader()
    config = PyFileConfigLoader(CONFIG, str(course)).load_config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.release_directory = str(folder)
    config.CourseDirectory.assignment_id = name
    steps = config.GenerateAssignment.preprocessors
    config.GenerateAssignment.preprocessors = [step for step in steps if not step.endswith(".SaveCells")]
    config.GenerateAssignment.update({"no_database": True, "force": True})
    converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
    converter.log = logging.getLogger("sdlab.labs")
    try:
        converter.start()
    except (Exception, SystemExit) as error:
        raise SdlabError(f"nbgrader could not make a lab from solutions/{name}: {error}") from None


def build_labs(course: Path) -> list[str]:
    """Write every lab that is not what its solution makes; return the names of those written."""
    written = []
    for name in lab_names(course):
        text, file = lab_text(course, name), course / "labs" / name / f"{name}.ipynb"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            written.append(name)
    return written


def drifted_labs(course: Path) -> list[str]:
    """Return one sentence for each lab that is not what its solution makes."""
    names, said = lab_names(course), []
    for name in names:
        file = course / "labs" / name / f"{name}.ipynb"
        if not file.is_file():
            said.append(f"labs/{name} is missing: run 'sdlab labs build'.")
        elif file.read_text(encoding="utf-8") != lab_text(course, name):
            said.append(f"labs/{name} is not what solutions/{name} makes: run 'sdlab labs build'.")
    extra = sorted({file.parent.name for file in (course / "labs").glob("*/*.ipynb")} - set(names))
    return said + [f"labs/{name} has no solution: delete it or add solutions/{name}." for name in extra]
