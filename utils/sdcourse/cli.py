"""The command ``sdlab``: draw, course, doctor, evaluate, portraits, colab, labs, grade, train."""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

from sdlab import SdlabError, __version__

from .grading.command import add_commands


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 (the doctor found something), 2 (an error, in one line)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["train"]:
            from .training.command import main as train

            return train(argv[1:]) or 0
        options = make_parser().parse_args(argv)
        return options.run(options) or 0
    except SdlabError as error:
        print(f"sdlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sdlab: stopped", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from sdlab import SAMPLERS
    from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS

    from .portraits.worlds import WORLDS

    parser = argparse.ArgumentParser(prog="sdlab", description="A small Stable Diffusion of our own, to learn with.")
    parser.add_argument("--version", action="version", version=f"sdlab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sampling = argparse.ArgumentParser(add_help=False)
    sampling.add_argument("--model", help="pocket (default), sd15, a hub id or a folder")
    sampling.add_argument("--seed", type=int, default=0, help="the start noise (default 0)")
    sampling.add_argument("--steps", type=int, default=DEFAULT_STEPS, help=f"denoising steps (default {DEFAULT_STEPS})")
    sampling.add_argument(
        "--guidance",
        type=float,
        default=DEFAULT_GUIDANCE,
        help=f"guidance scale (default {DEFAULT_GUIDANCE})",
    )

    command = commands.add_parser("draw", parents=[sampling], help="draw a picture of a prompt")
    command.add_argument("prompt", metavar="PROMPT")
    command.add_argument("--negative", metavar="PROMPT", help="what the picture is to be led away from")
    command.add_argument("--height", type=int, help="in pixels; by default the model's own")
    command.add_argument("--width", type=int, help="in pixels; by default the model's own")
    command.add_argument("--sampler", choices=sorted(SAMPLERS), help="by default the model's own")
    command.add_argument("--out", type=Path, default=Path("picture.png"), help="default picture.png")
    command.set_defaults(run=run_draw)

    command = commands.add_parser("course", help="copy the lessons and labs to a folder, to work there")
    command.add_argument("folder", type=Path, metavar="FOLDER")
    command.set_defaults(run=run_course)

    command = commands.add_parser("colab", help="write the address of a published copy into every notebook")
    command.add_argument("address", nargs="?", help='https://github.com/OWNER/NAME; "" for none; default: as it is')
    command.add_argument("--branch", help="branch or tag to take the course from (default: as it is, at first main)")
    command.set_defaults(run=run_colab)

    command = commands.add_parser("doctor", help="check this computer and say what to do")
    command.set_defaults(run=run_doctor)

    command = commands.add_parser("evaluate", parents=[sampling], help="measure how well pictures follow prompts")
    command.add_argument("--n", type=int, default=1000, help="pictures to draw (default 1000)")
    command.add_argument("--training-pictures", type=int, metavar="N", help="search so many for copies (default all)")
    command.add_argument("--judge", metavar="FOLDER", help="the judge that reads the pictures (default: the shipped)")
    command.add_argument("--clip", metavar="FOLDER", help="the CLIP that reads them too (default: the shipped one)")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=run_evaluate)

    command = commands.add_parser("portraits", help="draw a contact sheet of the training portraits")
    command.add_argument("--n", type=int, default=48, help="how many (default 48)")
    command.add_argument("--seed", type=int, default=0, help="the first portrait (default 0)")
    command.add_argument("--world", choices=WORLDS, help="whose portraits (default: the shipped model's)")
    command.add_argument("--out", type=Path, default=Path("portraits.png"), help="default portraits.png")
    command.set_defaults(run=run_portraits)

    add_commands(commands)
    commands.add_parser("train", add_help=False, help="train a part of the model: sdlab train --help")
    return parser


def run_draw(options: argparse.Namespace) -> None:
    """Draw one picture and save it."""
    from sdlab import draw, load_pipeline
    from sdlab.pipeline import DEFAULT_MODEL
    from sdlab.prompts import PromptWarning

    pipe = load_pipeline(options.model or DEFAULT_MODEL)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", PromptWarning)
        image = draw(
            pipe,
            options.prompt,
            seed=options.seed,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            sampler=options.sampler,
            negative_prompt=options.negative,
            height=options.height,
            width=options.width,
        )
    for note in notes:
        print(f"sdlab: {note.message}", file=sys.stderr)
    seconds = time.perf_counter() - start
    save_image(image, options.out)
    print(f"{options.out}: {image.width} x {image.height}, seed {options.seed}, {options.steps} steps, {seconds:.1f} s")


def run_course(options: argparse.Namespace) -> None:
    """Copy the course, or bring a copy up to date, and say what was left alone."""
    from .course_copy import copy_course

    copied = copy_course(options.folder)
    counts = f"{len(copied.new)} new, {len(copied.updated)} brought up to date, {len(copied.same)} as they were"
    print(f"{options.folder}: {counts}.")
    if copied.kept:
        print(f"Left alone, because you have changed them: {', '.join(copied.kept)}")
    print(f"Begin with: jupyter lab {options.folder / 'course' / '00_the_whole_picture.ipynb'}")


def run_colab(options: argparse.Namespace) -> None:
    """Write the address into all notebooks of this checkout, and make the labs again."""
    from .colab import check_published, place_cells
    from .grading.labs import build_labs, check_can_build, find_course

    check_published(options.address, options.branch)
    root = find_course()
    check_can_build(root)  # before anything is written
    changed = place_cells(root, address=options.address, branch=options.branch)
    labs = build_labs(root)
    print(f"{len(changed)} lessons and solutions and {len(labs)} labs changed: commit and push them.")


def run_doctor(options: argparse.Namespace) -> int:
    """Print the report; return 1 if something is wrong."""
    from .doctor import examine

    checks = examine()
    print(*checks, sep="\n")
    wrong = sum(bool(check.remedy) for check in checks)
    print("All is well." if not wrong else f"{wrong} of {len(checks)} checks failed; the arrows say what to do.")
    return 1 if wrong else 0


def run_evaluate(options: argparse.Namespace) -> None:
    """Print the scores, as one JSON object or as a line each."""
    from sdlab.pipeline import DEFAULT_MODEL

    from .judging.evaluate import evaluate

    readers = {"judge_folder": options.judge, "clip_folder": options.clip}
    scores = evaluate(
        options.model or DEFAULT_MODEL,
        n=options.n,
        seed=options.seed,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        training_pictures=options.training_pictures,
        progress=lambda line: print(line, file=sys.stderr),
        **{name: folder for name, folder in readers.items() if folder},
    )
    lines = [json.dumps(scores)] if options.json else [f"{name:<44} {value}" for name, value in flatten(scores)]
    print(*lines, sep="\n")


def flatten(scores: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Return ``[("attributes.eyes.share", 0.98), ...]`` of nested dictionaries."""
    rows = []
    for name, value in scores.items():
        path = f"{prefix}{name}"
        rows += flatten(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
    return rows


def run_portraits(options: argparse.Namespace) -> None:
    """Save a contact sheet of portraits with the seeds seed, seed + 1, ..."""
    from sdlab import contact_sheet

    from .portraits import draw_portrait, plan_portrait

    if options.n < 1:
        raise SdlabError(f"--n {options.n} must be at least 1.")
    seeds = range(options.seed, options.seed + options.n)
    plans = [plan_portrait(seed, world=options.world) for seed in seeds]
    save_image(contact_sheet([draw_portrait(plan).image for plan in plans]), options.out)
    print(f"{options.out}: {options.n} portraits, seeds {seeds[0]} to {seeds[-1]}")


def save_image(image, file: Path) -> None:
    """Save a PIL picture, making the folder if need be; raise SdlabError if that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    except (OSError, ValueError) as error:
        raise SdlabError(
            f"The picture could not be written to {file} ({error}): use a name like picture.png."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
