"""Let a trained U-Net denoise the training portraits' latents, for a decoder that learns to paint from those.

A decoder trained on the encoder's latents alone meets others in use: the U-Net's, which lie a little beside them.
denoised.npy holds what the U-Net leaves of the first portraits of a folder, float16 [n, 4, 16, 16], centred as in
latents.npy; denoised.json says how many they are and which encoder, U-Net and guidance made them.
"""

import json

import numpy as np
import torch
from tqdm import tqdm

from sdlab import SdlabError, ddim_step

from ..portraits import caption
from .checkpoints import weights_hash
from .clip import load_trained_clip
from .data import load_data
from .latents import load_latents, sample_posteriors
from .randomness import step_generator, step_rng
from .tokenizer import tokenize
from .unet import load_trained_unet, make_scheduler, text_encoder_of

NOISIEST = (100, 500)  # the range of the time step to which the latents are noised


def denoise_latents(unet, data, *, clip, tokenizer, n, guidance_scale, seed=0, batch_size=32, steps=3):
    """Noise the latents of the first ``n`` portraits of the folder ``data``; denoise them in ``steps`` DDIM steps."""
    data = load_data(data)
    latents, meta = load_latents(data.folder)
    if not 0 < n <= len(data):
        raise SdlabError(f"--n {n}: {data.folder} holds {len(data)} portraits.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, settings = load_trained_unet(unet)
    if settings.prediction_type != "epsilon":
        raise SdlabError(f"{unet} predicts {settings.prediction_type}, but here it has to predict epsilon.")
    model, kept = model.to(device), make_scheduler(settings).alphas_cumprod
    clip, tokenizer = load_trained_clip(clip, tokenizer)
    encoder, found = text_encoder_of(clip).to(device), np.empty((n, 4, *latents.shape[2:]), np.float16)

    def embed(texts):
        return encoder(tokenize(tokenizer, texts).to(device))[0]

    for start in tqdm(range(0, n, batch_size), disable=None, desc="denoised latents"):
        rng, generator = step_rng(seed, start), step_generator(seed, start, device=device)
        places = range(start, min(start + batch_size, n))
        embeds = embed([""] * len(places) + [caption(data.plan(place), rng).text for place in places])
        moments = torch.from_numpy(np.array(latents[start : places.stop])).float().to(device)
        clean, noise = sample_posteriors(moments, meta["scaling_factor"], generator)
        first = int(rng.integers(NOISIEST[0], NOISIEST[1] + 1))
        timesteps = [first * left // steps for left in range(steps, 0, -1)]
        noisy = kept[first] ** 0.5 * clean + (1 - kept[first]) ** 0.5 * noise
        drawn = denoise(model, noisy, embeds, timesteps, kept, guidance_scale=guidance_scale)
        found[start : places.stop] = (drawn / meta["scaling_factor"]).cpu().numpy()
    np.save(data.folder / "denoised.npy", found)
    made = {"n": n, "encoder": meta["encoder"], "unet": weights_hash(model), "guidance_scale": guidance_scale}
    (data.folder / "denoised.json").write_text(json.dumps(made, indent=1))
    return made


@torch.no_grad()
def denoise(unet, latents, embeds, timesteps, alphas_cumprod, *, guidance_scale):
    """Take latents [B, 4, h, w] from timesteps[0] to 0 by DDIM; embeds [2B, 77, D], the empty captions first."""
    kept = [*alphas_cumprod[timesteps].tolist(), 1.0]
    for timestep, here, there in zip(timesteps, kept, kept[1:], strict=False):
        plain, told = unet(torch.cat([latents] * 2), timestep, encoder_hidden_states=embeds).sample.chunk(2)
        noise = plain + guidance_scale * (told - plain)
        latents = ddim_step(noise, latents, here, there)
    return latents
