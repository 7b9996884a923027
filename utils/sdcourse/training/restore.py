"""Turn the shipped model folders back into run folders, to train on from what is shipped: export, the other way."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import load_file

from sdlab import SdlabError, load_pipeline
from sdlab.steering import add_lora
from sdlab.weights import verify_weights

from .checkpoints import save_checkpoint, weights_hash
from .clip import load_trained_clip
from .latents import CENTRED, encoder_hash
from .log import append_log
from .unet import text_encoder_of
from .vae import load_trained_vae

PARTS = {
    "clip": ("clip/model.safetensors", "clip."),
    "vae": ("pocket/vae/diffusion_pytorch_model.safetensors", "vae."),
    "judge": ("judge/judge.safetensors", "judge."),
    "unet": ("pocket/unet/diffusion_pytorch_model.safetensors", "unet."),
}


def restore_runs(models, out):
    """Write out/clip, vae, judge, unet and tokenizer from the folders in ``models``; return their paths.

    The adapters in models/steering, if there are any, follow (``restore_adapters``).

    Weights are the shipped ones (they were stored in float16); the optimiser's state is not shipped and starts anew, so
    a run goes on from these with ``--init``. Each remembers the settings and steps it came from.
    """
    models, out = Path(models), Path(out)
    for name in ("pocket", "clip", "judge"):
        verify_weights(models / name)
    recipe = json.loads((models / "pocket" / "training.json").read_text())
    folders = [out / part for part in (*PARTS, "tokenizer")]
    adapters = [out / part for part in ADAPTERS] if (models / "steering").is_dir() else []
    if found := [folder for folder in folders + adapters if folder.exists()]:
        raise SdlabError(f"{found[0]} exists already; name another --out, or move it away.")
    shutil.copytree(models / "pocket" / "tokenizer", out / "tokenizer")
    centred = _centring(recipe["unet"]["info"]["latents"]["scaling_factor"])
    for part, (file, prefix) in PARTS.items():
        info = recipe[part]["info"]
        if part == "vae":
            info = {CENTRED: centred}
        elif part == "unet":
            info = _inputs(out, info["latents"] | centred)
        weights = {prefix + name: weight.float() for name, weight in load_file(models / file).items()}
        _write_run(out / part, recipe[part], weights, info=info)
    return folders + (restore_adapters(models / "steering", out) if adapters else [])


def restore_adapters(steering, out):
    """Write out/lora, hypernetwork and controlnet from the adapters in the folder ``steering``; return their paths."""
    steering, out, folders = Path(steering), Path(out), []
    for part, names_in_run in ADAPTERS.items():
        folder = steering / part
        verify_weights(folder)
        run = json.loads((folder / "training.json").read_text())
        (file,) = folder.glob("*.safetensors")
        shipped = load_file(file)
        names = names_in_run(SimpleNamespace(**run["settings"]), shipped)
        weights = {new: shipped[old].float() for new, old in names.items()}
        last = {name: value for entry in run["log"] for name, value in entry.items()}
        _write_run(out / part, run | {"last": last}, weights, info={})
        folders.append(out / part)
    return folders


def _lora_names(settings, weights):
    """Return {name in a run: name in the file}: a run numbers the parameters as the U-Net lists them."""
    parameters = add_lora(load_pipeline(settings.base, device="cpu"), rank=settings.rank)
    return {f"adapter.{index}": "unet." + name.replace(".lora.", ".") for index, name in enumerate(parameters)}


ADAPTERS = {
    "lora": _lora_names,
    "hypernetwork": lambda settings, weights: {f"adapter.layers.{name}": name for name in weights},
    "controlnet": lambda settings, weights: {f"controlnet.{name}": name for name in weights},
}


def _centring(scaling_factor):
    """Return how the shipped autoencoder's latents lie: centred, so that they need not be measured again."""
    return {"latent_mean": [0.0] * 4, "latent_std": [1 / scaling_factor] * 4, "scaling_factor": scaling_factor}


def _inputs(out, latents):
    """Return what the U-Net was trained with, in the weights that are shipped of it."""
    clip, _ = load_trained_clip(out / "clip", out / "tokenizer")
    latents = latents | {"encoder": encoder_hash(load_trained_vae(out / "vae"))}
    return {"latents": latents, "text_encoder": weights_hash(text_encoder_of(clip))}


def _write_run(folder, run, weights, *, info):
    history = {name: run[name] for name in ("step", "views", "seconds", "settings", "before")}
    state = history | {"info": info, "decay": None, "optimizer": {}}
    save_checkpoint(folder, state | {"parameter_names": [], "model": weights, "ema": {"shadow_params": []}})
    append_log(folder, {"step": run["step"], "views": run["views"]} | run["last"])
