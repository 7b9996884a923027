"""One door for each kind of argument: what comes in is returned as it is used, or refused in one sentence.

Every public function sends its arguments through here, before anything is computed or changed.
"""

import math
import numbers

from .errors import SdlabError

MOST_STEPS, MOST_GUIDANCE, MOST_PIXELS = 1000, 100, 8192


def check_whole(name: str, value, low: int = 0, high: float = math.inf, *, advice: str = "") -> int:
    """Return ``value`` as an int, also numpy's; raise SdlabError unless it is a whole number from low to high."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    span = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
    raise SdlabError(f"{name}={short(value)} must be a whole number {span}{advice}.")


def check_number(name: str, value, low: float, high: float, meaning: str) -> float:
    """Return ``value``; raise SdlabError, with its ``meaning``, unless it is a finite number from low to high."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not low <= value <= high:  # also NaN
        raise SdlabError(f"{name}={short(value)} must {meaning}.")
    return value


def check_settings(num_inference_steps: int, guidance_scale: float, num_images: int = 1) -> None:
    """Raise SdlabError for zero steps, guidance below 1, or no picture."""
    check_steps(num_inference_steps)
    meaning = f"be 1 (the prompt without extra push) or more, up to {MOST_GUIDANCE}; try 2.5"
    check_number("guidance_scale", guidance_scale, 1, MOST_GUIDANCE, meaning)
    check_whole("num_images", num_images, 1)


def check_steps(steps: int, most: int = MOST_STEPS) -> int:
    """Return a number of denoising steps; raise SdlabError unless it is a whole number from 1 to ``most``."""
    return check_whole("num_inference_steps", steps, 1, most, advice="; try 20")


def check_strength(strength: float) -> float:
    """Return ``strength`` (image to image: 0 keeps the picture, 1 redraws it); raise SdlabError outside 0..1."""
    return check_number("strength", strength, 0, 1, "lie between 0 (keep the picture) and 1 (draw it anew)")


def check_weight(scale) -> float:
    """Return the ``scale`` of an adapter as a float; raise SdlabError if it is not a finite number."""
    highest = 3.4e38  # of float32
    return float(check_number("scale", scale, -highest, highest, "be a number: 0 is the base model, 1 the full effect"))


def check_seed(seed: int, count: int = 1) -> int:
    """Return a seed; raise SdlabError unless it is a whole number that torch takes, with ``count`` from it on."""
    return check_whole("seed", seed, 0, 2**64 - count)


def seeded_generators(seed: int, count: int) -> list:
    """Return ``count`` CPU generators with the seeds seed, seed + 1, ..."""
    import torch

    seed = check_seed(seed, check_whole("count", count, 1))
    return [torch.Generator("cpu").manual_seed(seed + index) for index in range(count)]


def check_text(prompt, name: str = "prompt") -> str:
    """Return a prompt; raise SdlabError unless it is text, not empty, that UTF-8 can hold."""
    if not isinstance(prompt, str):
        raise SdlabError(f"{name}={short(prompt)} must be text, for example 'a man with blue eyes'.")
    if not prompt.strip():
        raise SdlabError(f"{name}={short(prompt)} is empty: say what to draw, for example 'a man with blue eyes'.")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in prompt):
        raise SdlabError(f"{name}={short(prompt)} holds a character that is no UTF-8: write it anew.")
    return prompt


def check_prompts(prompt, name: str = "prompt") -> list[str]:
    """Return a prompt, or several in a list or tuple, as a list; raise SdlabError for none, or for what is no text."""
    many = isinstance(prompt, (list, tuple)) and len(prompt) > 0
    return [check_text(one, name) for one in (prompt if many else [prompt])]


def check_negative(negative, count: int) -> list[str] | None:
    """Return ``count`` negative prompts, or None for None; raise SdlabError unless it is text (or empty), or a list."""
    if negative is None:
        return None
    several = list(negative) if isinstance(negative, (list, tuple)) else [negative] * count
    if len(several) != count:
        raise SdlabError(f"negative_prompt has {len(several)} texts for {count} prompts: give one for each, or one.")
    return [one if isinstance(one, str) and not one.strip() else check_text(one, "negative_prompt") for one in several]


def check_pipeline(pipe, *, draws: bool = True) -> None:
    """Raise SdlabError unless ``pipe`` is a Stable Diffusion pipeline (SD 1.x, 2.x, SDXL).

    draws: it must draw from noise and a prompt alone: not so where the U-Net reads more channels than the VAE makes.
    """
    missing = [part for part in ("unet", "vae", "scheduler") if getattr(pipe, part, None) is None]
    if missing or isinstance(pipe, type):
        raise SdlabError(
            f"pipe={short(pipe)} is no pipeline: the first argument is what load_pipeline() returns."
        )
    reads, makes = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if draws and reads != makes:
        kind = "an inpainting model, which also reads a mask and a picture" if reads == 9 else "made for another task"
        raise SdlabError(f"This U-Net reads {reads} channels, not {makes}: it is {kind}; use its own pipeline.")


def check_size(pipe, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """Return (height, width) in pixels, by default the model's own; raise SdlabError if its VAE cannot make them."""
    own = [side * pipe.vae_scale_factor for side in latent_size(pipe.unet)]
    return tuple(
        given if value is None else _check_side(name, value, pipe.vae_scale_factor)
        for name, value, given in (("height", height, own[0]), ("width", width, own[1]))
    )


def _check_side(name: str, value: int, factor: int) -> int:
    check_whole(name, value, factor, MOST_PIXELS, advice=f" pixels, a multiple of {factor}")
    if value % factor:
        raise SdlabError(f"{name}={value} must be a multiple of {factor}: try {value // factor * factor}.")
    return int(value)


def latent_size(unet, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """Return (height, width) of the latents; by default the size that ``unet`` was trained on, square or not."""
    size = unet.config.sample_size
    own = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    given = [value and check_whole(name, value, 1) for name, value in (("height", height), ("width", width))]
    return tuple(mine or theirs for mine, theirs in zip(given, own, strict=True))


def check_tensor(name: str, value, shape: tuple, *, advice: str = "") -> None:
    """Raise SdlabError unless ``value`` is a float tensor of ``shape`` (a letter fits any length) without NaN."""
    fits = hasattr(value, "is_floating_point") and value.is_floating_point() and value.ndim == len(shape)
    if not fits or any(isinstance(want, int) and want != have for want, have in zip(shape, value.shape, strict=True)):
        found = f"{list(value.shape)}" if hasattr(value, "shape") else type(value).__name__
        raise SdlabError(f"{name} must be floats of the shape [{', '.join(map(str, shape))}], not {found}{advice}.")
    check_finite(value, name)


def check_finite(tensor, name: str) -> None:
    """Raise SdlabError if ``tensor`` holds NaN or infinity, which half precision makes of large numbers."""
    if not tensor.isfinite().all():
        raise SdlabError(
            f"{name} hold NaN or infinity: if they were computed in float16, load the pipeline with dtype='float32' "
            "or 'bfloat16'."
        )


def short(value) -> str:
    """Return how ``value`` looks, in at most 60 characters of one line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    text = " ".join(text.splitlines())
    return text if len(text) <= 60 else f"{text[:57]}..."
