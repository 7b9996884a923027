"""Image to image: encode a picture, add noise for the chosen strength, start the drawing loop late, decode.

``redraw`` does it for the whole picture, ``inpaint`` behind a mask. On strengths that run at least one step both give
exactly the latents of diffusers' own pipelines; where those fail (no step to run), they return the encoded picture.
SDEdit (Meng et al. 2022); Blended Latent Diffusion (Avrahami et al. 2023) and RePaint (Lugmayr et al. 2022).
"""

import warnings
from itertools import pairwise

import numpy as np
import torch

from .arguments import (
    check_negative,
    check_pipeline,
    check_prompts,
    check_seed,
    check_settings,
    check_size,
    check_strength,
    check_tensor,
    seeded_generators,
)
from .compat import step_options
from .denoising import encode_all, guide, predict_noise
from .drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS
from .errors import SdlabError
from .images import prepare_image, prepare_mask
from .latents import decode_latents, encode_latents
from .prompts import PromptWarning, check_prompt
from .samplers import use_sampler

DEFAULT_STRENGTH = 0.6
BATCH = 24
COVERS = ("any", "corner")


def start_step(num_inference_steps: int, strength: float) -> int:
    """Return how many of the steps are left out at the start: 0 at strength 1, all of them at strength 0.

    >>> start_step(20, 0.35), 20 - start_step(20, 0.35)
    (13, 7)
    """
    check_settings(num_inference_steps, 1)
    return num_inference_steps - int(num_inference_steps * check_strength(strength))


def late_timesteps(scheduler, num_inference_steps: int, *, strength: float, device=None) -> torch.Tensor:
    """Set the scheduler to ``num_inference_steps`` and return the timesteps that ``strength`` leaves over.

    As diffusers cuts them: PNDM's list holds one timestep twice, so of it one more is left; for strengths that leave
    no step this returns none, for PNDM too (diffusers 0.42 would run one step with it, and fail with the others).
    """
    scheduler.set_timesteps(num_inference_steps, device=device)
    skipped = start_step(num_inference_steps, strength)
    if skipped == num_inference_steps:
        return scheduler.timesteps[:0]
    begin = skipped * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler.timesteps[begin:]


def redraw(
    pipe,
    image,
    prompt: str | list[str],
    *,
    strength: float = DEFAULT_STRENGTH,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    negative_prompt: str | None = None,
    sampler: str | None = None,
):
    """Return ``image`` redrawn after ``prompt``, a PIL picture; a list of them for lists of images or prompts.

    image: whatever ``prepare_image`` takes. strength: 0 keeps the picture (as the VAE gives it back), 1 keeps next to
    nothing. Picture number i has the seed seed + i. sampler: one of ``drawing.SAMPLERS``, by default the pipeline's
    own. Warns and raises as ``draw``. Equal to diffusers' StableDiffusionImg2ImgPipeline.
    """
    given = {"image": image, "prompt": prompt}
    check_pipeline(pipe)
    rows = _pair(**given)
    settings = {"strength": strength, "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    _check(pipe, [row["prompt"] for row in rows], **settings)
    for row in rows:
        row["image"] = prepare_image(row["image"], _side(pipe))
    pictures = _run(pipe, rows, seed=seed, sampler=sampler, negative_prompt=negative_prompt, **settings)
    return pictures if _is_many(given) else pictures[0]


def inpaint(
    pipe,
    image,
    mask,
    prompt: str,
    *,
    strength: float = 1.0,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    negative_prompt: str | None = None,
    sampler: str | None = None,
    cover: str = "any",
    paste: bool = False,
):
    """Return ``image`` with the white part of ``mask`` redrawn after ``prompt``: a PIL picture, or a list for lists.

    mask: whatever ``prepare_mask`` takes; white or True is redrawn. cover: which cells of the latents that means, see
    ``latent_mask``; with "corner" the result equals diffusers' StableDiffusionInpaintPipeline on a U-Net of 4 channels.
    paste: put the original pixels back outside the mask at the end. Strength 1 starts from noise alone.
    Warns and raises as ``draw``; raises SdlabError for a mask that leaves nothing to redraw.
    """
    given = {"image": image, "mask": mask, "prompt": prompt}
    check_pipeline(pipe)
    rows = _pair(**given)
    settings = {"strength": strength, "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    _check(pipe, [row["prompt"] for row in rows], **settings)
    for row in rows:
        row["image"], row["mask"] = prepare_image(row["image"], _side(pipe)), prepare_mask(row["mask"], _side(pipe))
        row["cells"] = latent_mask(row["mask"], pipe.vae_scale_factor, cover=cover)
    pictures = _run(pipe, rows, seed=seed, sampler=sampler, negative_prompt=negative_prompt, **settings)
    if paste:
        pictures = [
            paste_back(picture, row["image"], row["mask"]) for picture, row in zip(pictures, rows, strict=True)
        ]
    return pictures if _is_many(given) else pictures[0]


def _run(pipe, rows: list[dict], *, seed: int, sampler: str | None, negative_prompt, **settings) -> list:
    """Return one PIL picture for each row (image, prompt, perhaps cells), drawn in batches; row i has seed + i."""
    pictures, negatives = [], check_negative(negative_prompt, len(rows))
    check_seed(seed, len(rows))
    with use_sampler(pipe, sampler):
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            generators = seeded_generators(seed + first, len(part))
            latents, noise = prepare_image_latents(pipe, [row["image"] for row in part], generators)
            mask = torch.cat([row["cells"] for row in part]).to(latents) if "cells" in part[0] else None
            prompts = [row["prompt"] for row in part]
            settings["negative_prompt"] = negatives and negatives[first : first + BATCH]
            latents = redraw_latents(pipe, latents, noise, prompts, mask=mask, generators=generators, **settings)
            pictures += pipe.numpy_to_pil(decode_latents(pipe, latents).float().cpu().permute(0, 2, 3, 1).numpy())
    return pictures


@torch.no_grad()
def prepare_image_latents(pipe, images: list, generators: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (latents, noise), both [n, 4, h, w], of n PIL pictures: what ``redraw_latents`` starts from.

    As in diffusers, each generator is used twice, in this order: for a *sample* of the encoder's distribution, then
    for the noise. Latents are scaled; the random numbers are made on the CPU.
    """
    pixels = pipe.image_processor.preprocess(list(images)).to(pipe.device, pipe.unet.dtype)
    sampled = [encode_latents(pipe, pixels[row : row + 1], generator) for row, generator in enumerate(generators)]
    latents = torch.cat(sampled)
    noise = [torch.randn(sampled[0].shape, generator=generator, dtype=latents.dtype) for generator in generators]
    return latents, torch.cat(noise).to(latents.device)


@torch.no_grad()
def redraw_latents(
    pipe,
    latents: torch.Tensor,
    noise: torch.Tensor,
    prompts: list[str],
    *,
    strength: float,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    negative_prompt: str | None = None,
    mask: torch.Tensor | None = None,
    generators: list | None = None,
) -> torch.Tensor:
    """Return the latents [n, 4, h, w] that the late loop makes of clean ``latents`` and ``noise``.

    mask: [n or 1, 1, h, w], 1 where the picture is redrawn; elsewhere every step ends with the clean latents, noised
    to that step's level by the same ``noise``. generators: for schedulers that add noise on the way (DDPM).
    """
    check_tensor("latents", latents, ("n", pipe.vae.config.latent_channels, "h", "w"))
    check_tensor("noise", noise, tuple(latents.shape))
    scheduler = pipe.scheduler
    timesteps = late_timesteps(scheduler, num_inference_steps, strength=strength, device=pipe.device)
    if not len(timesteps):
        return latents
    size = tuple(length * pipe.vae_scale_factor for length in latents.shape[-2:])
    predict = _predictor(pipe, prompts, guidance_scale, negative_prompt, size)
    extra = step_options(pipe, generators)
    sample = scheduler.add_noise(latents, noise, timesteps[:1].repeat(len(latents)))
    if mask is not None and strength == 1:
        sample = noise * scheduler.init_noise_sigma
    for t, t_next in pairwise([*timesteps, None]):
        sample = scheduler.step(predict(sample, t), t, sample, **extra, return_dict=False)[0]
        if mask is not None:
            known = latents if t_next is None else scheduler.add_noise(latents, noise, t_next[None])
            sample = (1 - mask) * known + mask * sample
    return sample


def _predictor(pipe, prompts: list[str], guidance_scale: float, negative_prompt, size: tuple[int, int]):
    """Return a function (latents, t) -> the guided noise, each picture after its own prompt."""
    negatives = check_negative(negative_prompt, len(prompts))
    guided = guidance_scale > 1
    text, empty, added = encode_all(pipe, prompts, negative_prompt=negatives, guided=guided, size=size)

    def predict(latents, t):
        conditions = {"negative_prompt_embeds": empty, "added_cond_kwargs": added}
        uncond, cond = predict_noise(pipe, latents, t, text, **conditions)
        return cond if uncond is None else guide(uncond, cond, guidance_scale)

    return predict


def latent_mask(mask: np.ndarray, factor: int = 8, *, cover: str = "any") -> torch.Tensor:
    """Return which cells of the latents a mask of pixels [H, W] (bool, True: redraw) means: [1, 1, h, w] of 0 and 1.

    cover="any": every cell with at least one such pixel. "corner": a cell whose upper left pixel is one, which is
    what diffusers' inpainting takes (nearest-neighbour); thin shapes may fall through it.
    """
    if cover not in COVERS:
        raise SdlabError(f"cover={cover!r} must be one of {', '.join(COVERS)}.")
    if mask.ndim != 2 or mask.dtype != bool or mask.shape[0] % factor or mask.shape[1] % factor:
        raise SdlabError(f"A mask is bool [H, W], sides divisible by {factor}; not {mask.dtype} {list(mask.shape)}.")
    tiles = torch.from_numpy(mask.copy())[None, None].float()
    if cover == "any":
        return torch.nn.functional.max_pool2d(tiles, factor)
    return tiles[..., ::factor, ::factor].contiguous()


def paste_back(image, original, mask: np.ndarray):
    """Return the PIL picture ``image`` with the pixels of ``original`` wherever ``mask`` (bool [H, W]) is False."""
    from PIL import Image

    return Image.composite(image, original, Image.fromarray(mask))


def _side(pipe) -> tuple[int, int]:
    """Return (width, height) in pixels of the pictures that the pipeline draws."""
    return check_size(pipe)[::-1]


def _is_many(given: dict) -> bool:
    return any(isinstance(value, (list, tuple)) for value in given.values())


def _pair(**given) -> list[dict]:
    """Return one dictionary a picture; what is given once goes with each of the others."""
    lists = {name: list(value) if isinstance(value, (list, tuple)) else [value] for name, value in given.items()}
    count = max(map(len, lists.values())) if all(lists.values()) else 0
    if not count or any(len(values) not in (1, count) for values in lists.values()):
        found = ", ".join(f"{len(values)} of {name}" for name, values in lists.items())
        raise SdlabError(f"These cannot be paired: {found}; give one of each, or equally many.")
    return [{name: values[index % len(values)] for name, values in lists.items()} for index in range(count)]


def _check(pipe, prompts: list[str], *, strength, num_inference_steps: int, guidance_scale: float) -> None:
    """Raise SdlabError for settings out of range; warn once of each thing in the prompts that is lost."""
    check_strength(strength)
    check_settings(num_inference_steps, guidance_scale)
    texts = dict.fromkeys(check_prompts(prompts))
    sentences = [sentence for prompt in texts for sentence in check_prompt(pipe, prompt)]
    for sentence in dict.fromkeys(sentences):
        warnings.warn(sentence, PromptWarning, stacklevel=3)
