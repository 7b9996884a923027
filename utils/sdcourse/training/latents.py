"""Read what lies on the disk of encoded and denoised portraits; knows no network.

latents.npy holds mean and log-variance of every posterior, float16 [N, 8, 16, 16], denoised.npy what the U-Net left of
the first portraits, float16 [n, 4, 16, 16], centred as in latents.npy; the JSON beside each says which weights made it.
"""

import json
from pathlib import Path

import numpy as np
import torch

from sdlab import SdlabError

from .checkpoints import weights_hash
from .data import SIZE

CENTRED = "centred"  # in a run's info: how its latents are centred already


def load_latents(folder):
    """Return (latents float16 [N, 8, 16, 16] memory-mapped, meta) that `encode_data` has finished."""
    folder, meta = Path(folder), _read_meta(folder)
    if meta is None:
        raise SdlabError(
            f"There are no latents in {folder}; make them with: sdlab train latents --data {folder}"
        )
    latents = np.load(folder / "latents.npy", mmap_mode="c")
    if meta["done"] < len(latents):
        raise SdlabError(
            f"Only {meta['done']} of {len(latents)} latents in {folder} are there; "
            "run the same 'sdlab train latents' again."
        )
    return latents, meta


def sample_posteriors(moments, scaling_factor, generator):
    """Return (latents drawn from their posteriors and scaled, noise), both [B, 4, h, w]; moments [B, 8, h, w]."""
    shape = (len(moments), 4, *moments.shape[2:])
    sample, noise = (torch.randn(shape, generator=generator, device=moments.device) for _ in range(2))
    latents = moments[:, :4] + (0.5 * moments[:, 4:].clamp(-30, 20)).exp() * sample
    return latents * scaling_factor, noise


def around_eyes(centres, side, weight):
    """Return the weight of every latent's error, [N, 1, side, side]: ``weight`` around the eyes, 1 elsewhere.

    centres: [N, 2, 2], the (x, y) of both eyes in the pixels of the portrait.
    """
    weights = torch.ones(len(centres), 1, side, side)
    for row, eyes in zip(weights, np.asarray(centres) * side / SIZE, strict=True):
        for x, y in eyes:
            row[0, round(y - 1.5) : round(y + 1.5), round(x - 1.5) : round(x + 1.5)] = weight
    return weights


def encoder_hash(model):
    """Return a hash of everything that decides the latents."""
    return weights_hash(model.encoder, model.quant_conv)


def _read_meta(folder):
    file = Path(folder) / "latents.json"
    return json.loads(file.read_text()) if file.exists() else None


def _write_meta(folder, meta):
    unfinished = Path(folder) / "latents.json.unfinished"
    unfinished.write_text(json.dumps(meta, indent=1))
    unfinished.replace(Path(folder) / "latents.json")


def count_denoised(folder):
    """Return how many denoised latents there are in a folder of portraits."""
    return _read_made(folder)["n"]


def _read_made(folder):
    file = Path(folder) / "denoised.json"
    if not file.exists():
        raise SdlabError(f"There are no denoised latents in {folder}; make them with: sdlab train denoised")
    return json.loads(file.read_text())


def load_denoised(folder, vae):
    """Return the denoised latents of a folder, as the autoencoder ``vae`` makes its own, float32 [n, 4, 16, 16]."""
    made, (_, meta) = _read_made(folder), load_latents(folder)
    if not made["encoder"] == meta["encoder"] == encoder_hash(vae):
        raise SdlabError(f"The denoised latents in {folder} are of another encoder; run 'sdlab train denoised' again.")
    mean, std = (torch.tensor(meta[name]).view(4, 1, 1) for name in ("latent_mean", "latent_std"))
    return torch.from_numpy(np.load(Path(folder) / "denoised.npy")).float() * std * meta["scaling_factor"] + mean
