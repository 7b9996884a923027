"""Checkpoints of a training run: written to a temporary file, renamed into place, the one before kept."""

import hashlib
import os
import sys
from pathlib import Path

import torch

from sdlab import SdlabError

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save_checkpoint(folder, state):
    """Write `state` (tensors and plain values) so that a kill at any moment leaves a whole checkpoint."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "checkpoint.unfinished"
    with open(unfinished, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if (folder / CURRENT).exists():
        os.replace(folder / CURRENT, folder / PREVIOUS)
    os.replace(unfinished, folder / CURRENT)


def save_snapshot(folder, state):
    """Keep the averaged weights of a state, in float16, as folder/snapshots/STEP.pt; return the file's path."""
    kept = history_of(state) | {"info": state["info"]}
    weights = {name: weight.half() for name, weight in averaged_weights(state).items()}
    file = Path(folder) / "snapshots" / f"{state['step']:06d}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(kept | {"model": weights, "parameter_names": [], "ema": {"shadow_params": []}}, file)
    return file


def load_checkpoint(folder, *, map_location="cpu"):
    """Return the newest readable state in `folder`, or None where no checkpoint was ever written.

    A damaged file is reported on stderr and the one before it is used; SdlabError when none is readable.
    """
    if torch.device(map_location).type == "cpu":
        map_location = "cpu"  # processes beside each other say "cpu:0", which torch.load does not know
    files = [file for name in (CURRENT, PREVIOUS) if (file := Path(folder) / name).exists()]
    for file in files:
        try:
            return torch.load(file, map_location=map_location, weights_only=True)
        except Exception as error:  # torch names a damaged file in half a dozen ways
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"{file} is damaged ({reason}); trying the checkpoint before it.", file=sys.stderr)
    if files:
        names = " and ".join(file.name for file in files)
        raise SdlabError(
            f"No checkpoint in {folder} can be read ({names} damaged); start this run again with --fresh."
        )
    return None


def load_state(source):
    """Return the state of a run folder (its newest readable checkpoint) or of one checkpoint file."""
    source = Path(source)
    state = load_checkpoint(source) if source.is_dir() else _load_file(source)
    if state is None:
        raise SdlabError(f"There is no checkpoint in {source}; train this stage first, or name another run.")
    return state


def history_of(state):
    """Return how a state came about: step, views, seconds and settings, and the same of the run it started from."""
    return {name: state[name] for name in ("step", "views", "seconds", "settings", "before")}


def whole_run(history):
    """Return (steps, views) of a run's history together with those of the runs it was started from; None has none."""
    if history is None:
        return 0, 0
    before = whole_run(history["before"])
    return history["step"] + before[0], history["views"] + before[1]


def averaged_weights(state):
    """Return the weights of a checkpoint by name, averaged ones where there is an average."""
    averages = dict(zip(state["parameter_names"], state["ema"]["shadow_params"], strict=True))
    return state["model"] | averages


def load_weights(source):
    """Return (settings dict, averaged weights) of a run folder or checkpoint file."""
    state = load_state(source)
    return state["settings"], averaged_weights(state)


def _load_file(file):
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SdlabError(
            f"{file} cannot be read as a checkpoint ({type(error).__name__}); name a run folder."
        ) from None


def weights_hash(*modules):
    """Return a short hash of all weights of modules, the same on every device."""
    digest = hashlib.sha256()
    for module in modules:
        for _, weight in sorted(module.state_dict().items()):
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
