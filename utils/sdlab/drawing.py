"""Draw pictures with a pipeline: seed, steps, guidance and sampler have their defaults here, in one place."""

import math
import numbers
import warnings

from .compat import quiet
from .errors import SdlabError
from .prompts import PromptWarning, check_prompt
from .samplers import use_sampler

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 2.5


def draw(
    pipe,
    prompt: str,
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    sampler: str | None = None,
    num_images: int = 1,
):
    """Return one PIL picture of ``prompt``, or a list of them if ``num_images`` is more than 1.

    Picture number i starts from seed + i, so it is the same alone or in a batch. The noise is made on the
    CPU: it does not depend on the device. sampler: one of ``SAMPLERS``; by default the pipeline's own.
    Warns (PromptWarning) of words that do not reach the picture; raises SdlabError for values out of range.
    """
    check_settings(num_inference_steps, guidance_scale, num_images)
    for sentence in check_prompt(pipe, prompt):
        warnings.warn(sentence, PromptWarning, stacklevel=2)
    with use_sampler(pipe, sampler), quiet(progress=True):  # what is cut off was said above
        images = pipe(
            prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images,
            generator=seeded_generators(seed, num_images),
        ).images
    return images[0] if num_images == 1 else images


def check_settings(num_inference_steps: int, guidance_scale: float, num_images: int = 1) -> None:
    """Raise SdlabError for zero steps, guidance below 1, or no picture."""
    if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= 1000:
        raise SdlabError(
            f"num_inference_steps={num_inference_steps!r} must be a whole number from 1 to 1000; try 20."
        )
    if not (_is_number(guidance_scale) and 1 <= guidance_scale < float("inf")):
        raise SdlabError(
            f"guidance_scale={guidance_scale!r} must be 1 (the prompt without extra push) or more; "
            f"try {DEFAULT_GUIDANCE}."
        )
    if not isinstance(num_images, int) or num_images < 1:
        raise SdlabError(f"num_images={num_images!r} must be a whole number of at least 1.")


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_strength(strength: float) -> float:
    """Return ``strength`` (image to image: 0 keeps the picture, 1 redraws it); raise SdlabError outside 0..1."""
    if not (_is_number(strength) and 0 <= strength <= 1):
        raise SdlabError(f"strength={strength!r} must lie between 0 (keep the picture) and 1 (draw it anew).")
    return strength


def seeded_generators(seed: int, count: int) -> list:
    """Return ``count`` CPU generators with the seeds seed, seed + 1, ..."""
    import torch

    if not isinstance(seed, int):
        raise SdlabError(f"seed={seed!r} must be a whole number.")
    return [torch.Generator("cpu").manual_seed(seed + index) for index in range(count)]


def check_weight(scale) -> float:
    """Return an adapter's ``scale`` as a float; raise SdlabError if it is not a finite number."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise SdlabError(f"scale={scale!r} must be a number: 0 is the base model, 1 the trained effect.")
    return float(scale)
