"""Encode all portraits once, so that the U-Net never waits for the autoencoder.

latents.npy holds mean and log-variance of every posterior, float16 [N, 8, 16, 16]; latents.json says how far
it is, which encoder made it, and how its channels were centred.
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sdlab import SdlabError
from sdlab.images import to_batch

from .checkpoints import load_state
from .data import load_data
from .latents import CENTRED, _read_meta, _write_meta, encoder_hash
from .vae import load_trained_vae

MEASURED = 1000  # pictures that decide the scaling factor


def encode_data(vae, data, *, out=None, batch_size=50, flip=False, fresh=False):
    """Encode every portrait in the folder `data` with the run `vae`; goes on where a kill stopped it."""
    data = load_data(data)
    out = Path(out or data.folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_trained_vae(vae).to(device)
    meta = {"n": len(data), "flip": flip, "encoder": encoder_hash(model), "pictures": data.meta["pictures"]}
    found = _read_meta(out)
    if fresh or found is None or any(found[key] != value for key, value in meta.items()):
        centred = load_state(vae)["info"].get(CENTRED) or measure_latents(model, data.images[:MEASURED], device=device)
        found = meta | centred | {"done": 0}
        shape = (len(data) * (1 + flip), 8, model.config.sample_size // 8, model.config.sample_size // 8)
        out.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(out / "latents.npy", mode="w+", dtype=np.float16, shape=shape).flush()
        _write_meta(out, found)
    centre_latents(model, found)
    _encode_rest(model, data, out, found, batch_size=batch_size, device=device)
    return found


def _encode_rest(model, data, out, meta, *, batch_size, device):
    latents = np.load(out / "latents.npy", mmap_mode="r+")
    starts = range(meta["done"], len(latents), batch_size)
    for count, start in enumerate(tqdm(starts, disable=None, desc="latents")):
        places = np.arange(start, min(start + batch_size, len(latents)))
        pictures = to_batch(data.images[places % len(data)]).to(device)
        mirrored = torch.from_numpy(places >= len(data)).to(device)[:, None, None, None]
        latents[places] = _moments(model, torch.where(mirrored, pictures.flip(-1), pictures)).cpu().numpy()
        if count % 20 == 19 or start + batch_size >= len(latents):
            latents.flush()
            meta["done"] = int(places[-1]) + 1
            _write_meta(out, meta)


@torch.no_grad()
def _moments(model, pictures):
    parameters = model.encode(pictures).latent_dist.parameters
    return parameters.float()


def measure_latents(model, images, *, device):
    """Return mean and std of each latent channel over uint8 images, and the scaling factor, 1 / std."""
    total, squares, count = 0.0, 0.0, 0
    for start in range(0, len(images), 50):
        moments = _moments(
            model, to_batch(np.array(images[start : start + 50])).to(device)
        ).double()
        mean, variance = moments[:, :4], moments[:, 4:].clamp(-30, 20).exp()
        total = total + mean.sum(dim=(0, 2, 3))
        squares = squares + (mean.square() + variance).sum(dim=(0, 2, 3))
        count += mean[:, 0].numel()
    mean = total / count
    std = (squares / count - mean.square()).sqrt()
    common = std.log().mean().exp()
    return {"latent_mean": mean.tolist(), "latent_std": std.tolist(), "scaling_factor": 1 / float(common)}


@torch.no_grad()
def centre_latents(model, meta):
    """Fold a shift and a gain per channel into the 1x1 convolutions around the latents.

    Afterwards every channel has mean 0 and the same std, 1 / scaling_factor; pictures do not change at all.
    (The pipelines of Stable Diffusion 1 know a scaling factor but no shift.) Sets config.scaling_factor.
    """
    weight = model.quant_conv.weight
    mean = torch.tensor(meta["latent_mean"], dtype=weight.dtype, device=weight.device)
    gain = 1 / (
        torch.tensor(meta["latent_std"], dtype=weight.dtype, device=weight.device) * meta["scaling_factor"]
    )
    model.post_quant_conv.bias += model.post_quant_conv.weight[:, :, 0, 0] @ mean
    model.post_quant_conv.weight /= gain[None, :, None, None]
    model.quant_conv.weight[:4] *= gain[:, None, None, None]
    model.quant_conv.bias[:4] = (model.quant_conv.bias[:4] - mean) * gain
    model.quant_conv.bias[4:] += 2 * gain.log()
    model.register_to_config(scaling_factor=round(meta["scaling_factor"], 6))
    return model


def load_latent_vae(vae, meta):
    """Return the autoencoder of a run, centred as the cached latents are that its encoder has made."""
    model = load_trained_vae(vae)
    if encoder_hash(model) != meta["encoder"]:
        raise SdlabError(
            f"The latents were made by another encoder than that of {vae}; "
            "run 'sdlab train latents' again, then the U-Net."
        )
    return centre_latents(model, meta)
