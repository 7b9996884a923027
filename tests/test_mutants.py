"""The tool that changes solutions: it finds what a check lets pass, and the checks of lab 01 let nothing of it pass."""

from mutants import mutants_of, survivors_of

SOURCE = "def f(x, n):\n    y = 2 * x\n    return y ** n if n > 0 else max(x, n)\n"


def test_a_mutant_differs_in_one_place():
    found = dict(mutants_of(SOURCE))
    for said in ("line 2: Mult -> Div", "line 3: Gt -> GtE", "line 2: 2 -> 3", "line 3: arguments of max swapped"):
        assert said in found
    assert len(set(found.values())) == len(found)


def test_no_mutant_of_a_solution_of_lab_01_is_taken_for_right():
    survivors = list(survivors_of("01_loss_and_gradient_descent", only="predict_distance"))
    assert survivors == []
