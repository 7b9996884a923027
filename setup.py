"""Everything else about the package is in pyproject.toml; this puts the lessons and labs into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCourse(build_py):
    """Copies course/ and labs/ into the package as sdcourse/material."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for folder in ("course", "labs"):
            target = Path(self.build_lib) / "sdcourse" / "material" / folder
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": BuildWithCourse})
