"""Break a copy of the course on purpose, in many small ways, and see that the tests find every one of them.

    python tests/mutations.py          # all (some minutes)
    python tests/mutations.py course   # those whose name contains "course"

A copy is broken in many places at once, each where another test looks; that test must fail. A mutation that no test
finds is printed, and the exit code is 1.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SANITIZE = "tests/nbval_sanitize.cfg"
LESSON, SOLUTION = "course/02_how_training_goes_wrong.ipynb", "solutions/01_loss_and_gradient_descent"
LAB = "labs/01_loss_and_gradient_descent/01_loss_and_gradient_descent.ipynb"
SOLUTION += "/01_loss_and_gradient_descent.ipynb"


@dataclass(frozen=True)
class Mutation:
    """In ``file``, ``old`` becomes ``new`` (in a notebook: in the source or the output of cell ``cell``).

    test: what must fail; for a notebook the cell, else file::function.
    """

    file: str
    old: str
    new: str
    test: str = ""
    cell: int | None = None
    where: str = "source"

    @property
    def name(self) -> str:
        """What it is, in a line."""
        place = self.file if self.cell is None else f"{self.file} cell {self.cell} {self.where}"
        return f"{place}: {self.old.strip()[:48]!r} -> {self.new.strip()[:48]!r}"

    @property
    def found_by(self) -> str:
        """What must fail, as a report names it."""
        return self.test or f"{self.file} Cell {self.cell}"


def python(file: str, old: str, new: str, test: str) -> Mutation:
    """Break a file that is no notebook."""
    return Mutation(file, old, new, test)


FILES = [
    python("utils/sdlab/pipeline.py", "torch.float16 if full_size and", "torch.float16 if full_size or",
           "test_pipeline::test_full_size_models_are_half_precision_on_cuda_only"),
    python("utils/sdlab/drawing.py", "manual_seed(seed + index)", "manual_seed(seed)",
           "test_pipeline::test_the_second_picture_of_a_batch_is_that_of_the_next_seed"),
    python("utils/sdlab/drawing.py", "0 <= strength <= 1)", "0 <= strength)",
           "test_pipeline::test_strength_must_lie_between_zero_and_one"),
    python("utils/sdlab/weights.py", "if found != expected:", "if not found:",
           "test_pipeline::test_a_damaged_file_is_named"),
    python("utils/sdlab/samplers.py", "(1 - alpha_prod_t_prev) ** 0.5 * noise_pred",
           "(1 - alpha_prod_t_prev) * noise_pred", "test_samplers::test_a_ddim_step_equals_the_scheduler"),
    python("utils/sdlab/samplers.py", "sample + (sigma_next - sigma) * noise_pred",
           "sample - (sigma_next - sigma) * noise_pred", "test_samplers::test_an_euler_step_equals_the_scheduler"),
    python("utils/sdlab/denoising.py", "guidance_scale * (noise_pred_text - noise_pred_uncond)",
           "guidance_scale * noise_pred_text", "test_loop::test_the_guided_noise_is_the_formula_of_its_two_parts"),
    python("utils/sdcourse/judging/intervals.py", "value, z = right / n, 1.96", "value, z = right / n, 1.64",
           "test_evaluate::test_the_wilson_interval_solves_its_own_equation"),
    python("utils/sdcourse/lessons/lesson_06.py", "np.argsort(np.argsort(values)) for", "np.sort(values) for",
           "test_words::test_rank_agreement_is_one_for_the_same_order_and_minus_one_for_the_opposite"),
    python("utils/sdcourse/checks/lab_01.py", "w, b, x, n, factor=1),", "w, b, x, n, factor=3),",
           "test_checks::test_a_wrong_answer_gets_the_hint_meant_for_it[01-gradient_by_hand"),
    python("README.md", "| [lab](labs/03_forward_diffusion/03_forward_diffusion.ipynb) | 30 | no |",
           "| [lab](labs/03_forward_diffusion/03_forward_diffusion.ipynb) | 40 | no |",
           "test_project::test_the_readme_says_of_every_lesson_what_the_lesson_says_of_itself"),
    python("tests/notebook_images.py", "LARGEST_DIFFERENCE = 0.02", "LARGEST_DIFFERENCE = 2.0",
           "test_notebook_images::test_a_shifted_picture_is_rejected"),
    python("tests/notebook_texts.py", "PART = 0.1 ", "PART = 1.0 ",
           "test_notebook_texts::test_a_number_is_near_within_two_units_a_tenth_or_ten_points"),
]  # fmt: skip
WITHOUT_OTHER_LABS = ["-k", "not hint_meant_for_it or 01-gradient_by_hand"]
NOTEBOOKS = [
    Mutation(LESSON, "torch.Size([1000, 1])", "torch.Size([1001, 1])", cell=3, where="output"),  # a stored number
    Mutation(LESSON, "0.198", "0.298", cell=24, where="output"),  # one that is compared within a tenth
    Mutation(LESSON, "unseen loss", "seen loss", cell=28, where="output"),  # a word in a cell compared by words
    Mutation(LESSON, "the right answer is 3", "the right answer is 4", cell=17, where="output"),
    Mutation(LESSON, "", "", cell=13, where="picture"),  # the stored picture becomes another cell's
    Mutation(LESSON, "", "", cell=22, where="picture"),
    Mutation(LESSON, "> 1  # no picture", "> 9  # no picture", cell=21),  # an assertion of the page
    Mutation(LESSON, "0.7 * error", "0.07 * error", cell=14),
    Mutation(LESSON, "drawn[\"A\", 2048][:8], \"B draws\"", "drawn[\"A\", 16][:8], \"B draws\"", cell=23),
    Mutation(LESSON, "right on most", "right on all", cell=20, where="output add"),  # more is stored than is said
    Mutation(SOLUTION, "(2 * error * noisy)", "(error * noisy)", f"{SOLUTION} Cell 3", cell=2),  # by its check
    Mutation(SOLUTION, "-2.0581", "-2.0681", cell=4, where="output"),
    Mutation(LAB, "raise NotImplementedError", "raise NotImplemented", f"{LAB} Cell 3", cell=2),
]


def mutate_file(folder: Path, mutation: Mutation) -> None:
    """Put ``new`` for ``old``, which must be there."""
    file = folder / mutation.file
    text = file.read_text(encoding="utf-8")
    assert mutation.old in text, f"{mutation.name}: this is no longer in the file"
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


def mutate_notebook(folder: Path, mutation: Mutation) -> None:
    """Change the source, what is printed, or the picture of one code cell."""
    file = folder / mutation.file
    notebook = json.loads(file.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cell = cells[mutation.cell]
    if mutation.where == "picture":
        other = cells[2]["outputs"][-1]["data"]["image/png"]
        cell["outputs"][-1]["data"]["image/png"] = other
    elif mutation.where == "output add":
        cell["outputs"][0]["text"].append(mutation.new)
    else:
        key = "source" if mutation.where == "source" else "outputs"
        before = json.dumps(cell[key])
        old, new = json.dumps(mutation.old)[1:-1], json.dumps(mutation.new)[1:-1]
        assert old in before, f"{mutation.name}: this is no longer in the cell"
        cell[key] = json.loads(before.replace(old, new))
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def failures(folder: Path, targets: list[str], options: list[str]) -> list[str]:
    """Run pytest in ``folder``; return what failed, as "file::test" or "notebook Cell n"."""
    path = os.pathsep.join([str(folder / "tests"), str(folder / "utils")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "SDLAB_DEVICE": "cpu"}
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*command, *options, *targets], cwd=folder, env=environment, stdout=sys.stderr)
    failed = []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(named(case.get("classname", ""), case.get("name", "")))
    return failed


def named(classname: str, name: str) -> str:
    """Return how a test is called here, from what a JUnit report calls it."""
    if name.startswith("Cell ") or "::Cell" in name:
        return f"{classname.removesuffix('.ipynb').replace('.', '/')}.ipynb {name}"
    return f"{classname.split('.')[-1]}::{name}"


def copy_of_the_course(folder: Path) -> Path:
    """Copy what the tests need, without environments and caches."""
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "runs", "__pycache__", ".pytest_cache", "*.egg-info")
    return Path(shutil.copytree(ROOT, folder / "course", ignore=ignored))


def main(words: list[str]) -> int:
    """Mutate, test, and say what was found by nothing."""
    chosen = [one for one in (*FILES, *NOTEBOOKS) if not words or any(word in one.name for word in words)]
    files = [one for one in chosen if one.cell is None]
    cells = [one for one in chosen if one.cell is not None]
    missed = 0
    for some, mutate, options in ((files, mutate_file, WITHOUT_OTHER_LABS), (cells, mutate_notebook, nbval())):
        if not some:
            continue
        with tempfile.TemporaryDirectory() as empty:
            folder = copy_of_the_course(Path(empty))
            for mutation in some:
                mutate(folder, mutation)
            failed = failures(folder, targets_of(some), options)
        for mutation in some:
            found = any(name.startswith(mutation.found_by) for name in failed)
            missed += not found
            print(f"{'found ' if found else 'MISSED'}  {mutation.name}  [{mutation.found_by}]", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutations found")
    return bool(missed)


def nbval() -> list[str]:
    """Return the options that re-run notebooks as ``make test`` does."""
    return ["-p", "notebook_plugin", "--nbval", "--nbval-current-env", f"--nbval-sanitize-with={SANITIZE}"]


def targets_of(mutations: list[Mutation]) -> list[str]:
    """Return the files to test: the notebooks themselves, or the tests that are to find the mutations."""
    if mutations[0].cell is not None:
        return sorted({one.file for one in mutations})
    return sorted({f"tests/{one.test.split('[')[0].replace('::', '.py::')}" for one in mutations})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
