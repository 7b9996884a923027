"""Every exercise: the solution is right, the stub is not attempted, each wrong answer gets the hint meant for it."""

import pytest

from lab_notebooks import NAMES, answers_in, checked, checks_of, read, wrong_answers_of
from sdcourse.checks import NotAttempted, Wrong

EXERCISES = [(name, exercise) for name in NAMES for exercise in checks_of(name).exercises]
WRONG = [
    pytest.param(name, exercise, hint, answer, id=f"{name[:2]}-{exercise}-{hint}")
    for name in NAMES
    for exercise, pairs in wrong_answers_of(name).items()
    for hint, answer in pairs
]


@pytest.fixture(scope="module")
def answers():
    """Return the names of a solution or lab, each notebook run once."""
    known = {}

    def of(folder: str, name: str) -> dict:
        if (folder, name) not in known:
            known[folder, name] = answers_in(read(folder, name))
        return known[folder, name]

    return of


def answer_to(answers: dict, name: str, exercise: str):
    return answers[checked(read("solutions", name))[exercise]]


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_solution_is_right_on_another_seed_than_that_of_its_notebook(answers, name, exercise, capsys):
    answer = answer_to(answers("solutions", name), name, exercise)
    getattr(checks_of(name), exercise)(answer, seed=1)  # seed 0 is checked where solutions/ is run
    assert capsys.readouterr().out.startswith(f"✓ {exercise}: right")


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_stub_is_not_attempted(answers, name, exercise):
    with pytest.raises(NotAttempted, match="not attempted yet") as caught:
        getattr(checks_of(name), exercise)(answer_to(answers("labs", name), name, exercise))
    assert caught.value._render_traceback_() == [f"○ {exercise}: not attempted yet."]


@pytest.mark.parametrize(("name", "exercise", "hint", "answer"), WRONG)
def test_a_wrong_answer_gets_the_hint_meant_for_it(name, exercise, hint, answer):
    with pytest.raises(Wrong) as caught:
        getattr(checks_of(name), exercise)(answer)
    text = str(caught.value)
    assert hint in text
    assert text.startswith(f"{exercise}: ")
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_every_exercise_has_at_least_five_wrong_answers(name, exercise):
    assert len({hint for hint, _ in wrong_answers_of(name).get(exercise, [])}) >= 5


class EqualToEverything:
    """What a learner might hand in to please a careless check."""

    shape, dtype = (), None

    def __eq__(self, other):
        return True

    def __getattr__(self, name):
        return lambda *args, **kwargs: self

    def __bool__(self):
        return True

    __hash__ = None


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_an_object_that_is_equal_to_everything_is_wrong(name, exercise):
    with pytest.raises(Wrong):
        getattr(checks_of(name), exercise)(lambda *arguments: EqualToEverything())
