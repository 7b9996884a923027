"""The command ``sdlab train STAGE``, or ``python -m sdcourse.training STAGE``: one sub-command a stage."""

import argparse
import os
import sys
from importlib import import_module

from sdlab import SdlabError

STAGES = {
    "judge": "JudgeStage",
    "clip": "ClipStage",
    "vae": "VaeStage",
    "unet": "UnetStage",
    "reward": "RewardStage",
    "lora": "LoraStage",
    "hypernetwork": "HypernetworkStage",
    "style_lora": "StyleLoraStage",
    "controlnet": "ControlNetStage",
}
# where a stage does not have a module of its own
MODULES = {"style_lora": "lora"}


def main(argv=None):
    """Run one command; returns the exit status. A mistake of the user's is one sentence on stderr."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = make_parser().parse_args(argv)
    try:
        if getattr(arguments, "processes", 1) > 1 and "LOCAL_RANK" not in os.environ:
            _launch(arguments, argv)
        arguments.run_command(arguments)
    except SdlabError as error:
        print(f"sdlab train: {error}", file=sys.stderr)
        return 2
    return 0


def make_parser():
    """Return the argument parser of `sdlab train`."""
    parser = argparse.ArgumentParser(prog="sdlab train", description=__doc__)
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name in STAGES:
        _add_stage(commands.add_parser(name, help=f"train the {name}"), name)
    _add_data(commands.add_parser("data", help="draw the portraits to train on"))
    _add_tokenizer(commands.add_parser("tokenizer", help="train the BPE tokenizer on captions"))
    _add_latents(commands.add_parser("latents", help="encode all portraits with a trained autoencoder"))
    _add_denoised(commands.add_parser("denoised", help="let a trained U-Net denoise latents, for the VAE's decoder"))
    _add_export(commands.add_parser("export", help="write the trained parts as model folders"))
    _add_restore(commands.add_parser("restore", help="make run folders of the shipped models, to train on from them"))
    _add_steering(commands.add_parser("steering", help="write trained adapters as model folders, and measure them"))
    _add_halves(commands.add_parser("halves", help="train the small denoisers of lesson 02"))
    _add_chain(commands.add_parser("chain", help="train all parts of the second pocket model, in their order"))
    card = commands.add_parser("card", help="write the model card from training.json and scores.json")
    card.add_argument("folder", help="model folder, for example utils/sdlab/models/pocket")
    card.set_defaults(run_command=_run_card)
    learning = commands.add_parser("learning", help="measure what the U-Net had learned after how many views")
    learning.add_argument("folder", help="model folder, for example utils/sdlab/models/pocket")
    learning.add_argument("--runs", nargs="+", default=["runs/unet"], metavar="RUN", help="its stages in their order")
    learning.add_argument("--n", type=int, default=100, help="pictures behind each snapshot's scores")
    learning.add_argument("--threads", type=int)
    learning.set_defaults(run_command=_run_learning)
    plot = commands.add_parser("plot", help="draw the log of a run")
    plot.add_argument("run", help="run folder, for example runs/vae")
    plot.add_argument("--out", help="PNG to write (default: log.png in the run folder)")
    plot.set_defaults(run_command=_run_plot)
    return parser


STAGE_OPTIONS = {
    "--settings": {"metavar": "FILE", "help": "TOML with the settings to change"},
    "--set": {"metavar": "KEY=VALUE", "action": "append", "default": [], "help": "change one setting"},
    "--steps": {"type": int, "help": "length of the run"},
    "--minutes": {"type": float, "help": "budget of the whole run; the learning rate reaches 0 with it"},
    "--decay-now": {"type": int, "metavar": "N", "help": "end a run well: lower its rate to 0 over N steps"},
    "--init": {"metavar": "RUN", "help": "start from the averaged weights of a run folder or checkpoint"},
    "--fresh": {"action": "store_true", "help": "forget the checkpoints in the run folder"},
    "--threads": {"type": int, "help": "CPU threads of each process"},
    "--processes": {"type": int, "default": 1, "help": "run on so many GPUs, or CPU processes"},
    "--cpu": {"action": "store_true", "help": "stay on the CPU where there is a GPU"},
}


def _add_stage(parser, name):
    parser.add_argument("--run", default=f"runs/{name}", metavar="FOLDER", help="where checkpoints, log and samples go")
    for option, details in STAGE_OPTIONS.items():
        parser.add_argument(option, **details)
    parser.set_defaults(run_command=_run_stage)


def _add_data(parser):
    parser.add_argument("--n", type=int, default=12_000, help="how many portraits")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "held_out", "any"), default="train")
    parser.add_argument("--world", choices=("first", "second"), help="whose portraits (default: the shipped model's)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--out", default="runs/data/train", metavar="FOLDER")
    parser.add_argument("--fresh", action="store_true", help="draw everything again")
    parser.set_defaults(run_command=_run_data)


def _add_tokenizer(parser):
    parser.add_argument("--n", type=int, default=60_000, help="captions to learn from")
    parser.add_argument(
        "--vocabulary",
        type=int,
        default=740,
        help="most tokens to learn; common words become one token, rare ones stay in pieces",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", choices=("first", "second"), help="whose captions (default: the shipped model's)")
    parser.add_argument("--out", default="runs/tokenizer", metavar="FOLDER")
    parser.set_defaults(run_command=_run_tokenizer)


def _add_latents(parser):
    parser.add_argument("--vae", default="runs/vae", metavar="RUN")
    parser.add_argument("--data", default="runs/data/train", metavar="FOLDER")
    parser.add_argument("--out", metavar="FOLDER", help="where latents.npy goes (default: the data folder)")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument(
        "--flip", action="store_true", help="add mirrored copies (they mirror the painter's stroke too)"
    )
    parser.add_argument("--fresh", action="store_true", help="encode everything again")
    parser.add_argument("--threads", type=int)
    parser.set_defaults(run_command=_run_latents)


def _add_denoised(parser):
    for part in ("unet", "clip", "tokenizer"):
        parser.add_argument(f"--{part}", default=f"runs/{part}", metavar="RUN")
    parser.add_argument("--data", default="runs/data/train", metavar="FOLDER", help="portraits and their latents")
    parser.add_argument("--n", type=int, default=10_000, help="how many of the portraits")
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.set_defaults(run_command=_run_denoised)


def _add_export(parser):
    for part in ("clip", "vae", "unet", "judge", "tokenizer"):
        parser.add_argument(f"--{part}", default=f"runs/{part}", metavar="RUN")
    parser.add_argument("--out", default="utils/sdlab/models", metavar="FOLDER")
    parser.set_defaults(run_command=_run_export)


def _add_restore(parser):
    parser.add_argument("--models", default="utils/sdlab/models", metavar="FOLDER")
    parser.add_argument("--out", default="runs", metavar="FOLDER")
    parser.set_defaults(run_command=_run_restore)


def _add_steering(parser):
    for part in ("lora", "hypernetwork", "controlnet"):
        parser.add_argument(
            f"--{part}",
            metavar="RUN",
            nargs="+",
            help="run folder to export, or several stages to average; left out: as it is",
        )
    parser.add_argument("--gain", type=float, default=1.0, help="multiply what the hypernetwork adds (default 1)")
    parser.add_argument("--out", default="utils/sdlab/models/steering", metavar="FOLDER")
    parser.add_argument("--n", type=int, default=100, help="pictures behind each score")
    parser.add_argument("--threads", type=int)
    parser.set_defaults(run_command=_run_steering)


def _add_chain(parser):
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="where all run folders go")
    parser.add_argument("--portraits", type=int, default=40_000, help="how many to train on (default 40,000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw portraits")
    parser.add_argument("--minutes", type=float, help="for all training together; default: the steps of the settings")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: large batches, made ahead")
    parser.add_argument("--toy", action="store_true", help="two steps of everything with tiny networks, as a test")
    parser.add_argument("--until", metavar="LINK", help="the last link to run (portraits makes the data and no more)")
    parser.add_argument("--only", nargs="+", metavar="LINK", help="run these links, done or not")
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    parser.set_defaults(run_command=_run_chain)


def _add_halves(parser):
    parser.add_argument("--run", default="runs/halves", metavar="FOLDER", help="where checkpoints and logs go")
    parser.add_argument("--out", default="utils/sdlab/models/halves", metavar="FOLDER")
    for option in ("--settings", "--set", "--fresh", "--threads"):
        parser.add_argument(option, **STAGE_OPTIONS[option])
    parser.set_defaults(run_command=_run_halves)


def _launch(arguments, argv):
    """Become accelerate's launcher. (`accelerate launch --cpu --num_processes 2` starts one process only.)"""
    import torch

    environment = dict(os.environ)
    if arguments.cpu or not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    command += [
        "--dynamo_backend",
        "no",
        "--num_processes",
        str(arguments.processes),
        "-m",
        "sdcourse.training",
        *argv,
    ]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


def _set_threads(count):
    if count:
        import torch

        torch.set_num_threads(count)


def _run_stage(arguments):
    from pathlib import Path

    import torch

    from .loop import Trainer, make_accelerator
    from .settings import load_settings

    _set_threads(arguments.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked after the first use
    settings = load_settings(arguments.stage, arguments.settings, overrides=arguments.set)
    settings.steps = arguments.steps or settings.steps
    accelerator = make_accelerator(settings, cpu=arguments.cpu)
    torch.manual_seed(settings.seed)
    module = import_module(f".{MODULES.get(arguments.stage, arguments.stage)}", __package__)
    stage_class = getattr(module, STAGES[arguments.stage])
    stage = stage_class(settings, accelerator.device)
    trainer = Trainer(stage, accelerator, Path(arguments.run))
    trainer.run(fresh=arguments.fresh, minutes=arguments.minutes, decay_now=arguments.decay_now, init=arguments.init)
    accelerator.end_training()
    return "stopped" if trainer.stop.asked else None


def _run_data(arguments):
    from .data import make_data

    split, workers = arguments.split, arguments.workers
    make_data(
        arguments.out,
        n=arguments.n,
        first_seed=arguments.first_seed,
        split=split,
        world=arguments.world,
        workers=workers,
        fresh=arguments.fresh,
    )


def _run_tokenizer(arguments):
    from .tokenizer import train_tokenizer

    options = {name: getattr(arguments, name) for name in ("n", "vocabulary", "seed", "world")}
    train_tokenizer(arguments.out, **options)


def _run_latents(arguments):
    from .encode import encode_data

    _set_threads(arguments.threads)
    options = {"batch_size": arguments.batch_size, "flip": arguments.flip, "fresh": arguments.fresh}
    encode_data(arguments.vae, arguments.data, out=arguments.out, **options)


def _run_denoised(arguments):
    from .denoise import denoise_latents

    _set_threads(arguments.threads)
    options = {name: getattr(arguments, name) for name in ("clip", "tokenizer", "n", "seed")}
    denoise_latents(arguments.unet, arguments.data, guidance_scale=arguments.guidance, **options)


def _run_export(arguments):
    from .export import export_models

    parts = {part: getattr(arguments, part) for part in ("clip", "vae", "unet", "judge", "tokenizer")}
    export_models(arguments.out, **parts)


def _run_restore(arguments):
    from .restore import restore_runs

    for folder in restore_runs(arguments.models, arguments.out):
        print(folder)


def _run_steering(arguments):
    from .export_steering import export_steering, write_steering_card

    _set_threads(arguments.threads)
    runs = {part: getattr(arguments, part) for part in ("lora", "hypernetwork", "controlnet")}
    export_steering(arguments.out, gain=arguments.gain, **runs)
    print(write_steering_card(arguments.out, n=arguments.n))


def _run_chain(arguments):
    from .chain import make_chain, run_chain

    names = ("portraits", "workers", "minutes", "device", "toy")
    links = make_chain(arguments.runs, **{name: getattr(arguments, name) for name in names})
    if arguments.list:
        print(*(f"sdlab train {' '.join(link.words)}" for link in links), sep="\n")
        return
    run_chain(links, arguments.runs, _run_link, only=arguments.only, until=arguments.until)


def _run_link(words):
    """Run one command of the chain; return whether it came to its end."""
    arguments = make_parser().parse_args(words)
    return arguments.run_command(arguments) != "stopped"


def _run_halves(arguments):
    from .halves import train_halves
    from .settings import load_settings

    _set_threads(arguments.threads)
    settings = load_settings("halves", arguments.settings, overrides=arguments.set)
    train_halves(arguments.out, run=arguments.run, settings=settings, fresh=arguments.fresh)


def _run_card(arguments):
    from .card import write_card

    print(write_card(arguments.folder))


def _run_learning(arguments):
    from .report import write_learning

    _set_threads(arguments.threads)
    print(write_learning(arguments.folder, arguments.runs, n=arguments.n))


def _run_plot(arguments):
    from .log import plot_log

    print(plot_log(arguments.run, arguments.out))
