"""Instant checks for the labs: ``from sdcourse.checks.lab_01 import check``, then ``check.exercise(your_function)``."""

from .attempt import Pocket
from .exercise import Draws, Lab
from .outcome import CheckError, NotAttempted, Wrong

__all__ = ["CheckError", "Draws", "Lab", "NotAttempted", "Pocket", "Wrong"]
