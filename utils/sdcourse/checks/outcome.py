"""What a check can say: right, wrong and why, or not attempted. One sentence each, never a traceback."""



RIGHT, WRONG, NOT_ATTEMPTED, NOT_CHECKED = "right", "wrong", "not attempted", "not checked"
MARKS = {RIGHT: "✓", WRONG: "✗", NOT_ATTEMPTED: "○", NOT_CHECKED: "·"}


class CheckError(AssertionError):
    """An exercise is not solved (yet); IPython (7.34 and later) shows the sentence instead of a traceback."""

    status = WRONG

    def _render_traceback_(self) -> list[str]:
        return [f"{MARKS[self.status]} {self}"]


class Wrong(CheckError):
    """The answer is wrong; the sentence says what is wrong with it."""


class NotAttempted(CheckError):
    """The answer is still the stub of the lab."""

    status = NOT_ATTEMPTED
