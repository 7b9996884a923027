"""Draw pictures with a pipeline: seed, steps, guidance and sampler have their defaults here, in one place."""

import functools
import numbers
import re
import warnings
from contextlib import contextmanager
from pathlib import Path

from .errors import SdlabError
from .quiet import quiet

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 2.5
SAMPLERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
}


class PromptWarning(UserWarning):
    """Something in the prompt will not reach the picture."""


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


@contextmanager
def use_sampler(pipe, sampler: str | None = None):
    """Give ``pipe`` a fresh scheduler of the kind ``sampler``, a name of ``SAMPLERS``; restore its own at the end."""
    import diffusers

    if sampler is not None and sampler not in SAMPLERS:
        raise SdlabError(f"There is no sampler {sampler!r}: use one of {', '.join(SAMPLERS)}.")
    own = pipe.scheduler
    kind = getattr(diffusers, SAMPLERS[sampler]) if sampler else type(own)
    try:
        options = {"skip_prk_steps": True} if sampler == "pndm" else {}  # as in Stable Diffusion's own PNDM
        pipe.scheduler = kind.from_config(own.config, **options)
        yield pipe
    finally:
        pipe.scheduler = own


def check_prompt(pipe, prompt: str) -> list[str]:
    """Return one sentence for each thing in ``prompt`` that will not reach the picture; empty if all does.

    Two things are found: words cut off because the text encoder reads only so many tokens (77 with start and
    end), and words that no training caption contains (where the model lists its words, as the pocket model does).
    Raises SdlabError for an empty prompt.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise SdlabError(f"prompt={prompt!r} is empty: say what to draw, for example 'a man with blue eyes'.")
    sentences = []
    limit = pipe.tokenizer.model_max_length
    with quiet(progress=True):
        kept, cut = split_prompt(pipe.tokenizer, prompt)
    if cut:
        sentences.append(
            f"The prompt is longer than the {limit} tokens the model reads; it ends after "
            f"'{_tail(kept)}', and this is cut off: '{cut}'."
        )
    unknown = unknown_words(kept, known_words(pipe.name_or_path))
    if unknown:
        sentences.append(
            f"In training the model has never seen {', '.join(map(repr, unknown))}: it can only guess."
        )
    return sentences


def split_prompt(tokenizer, prompt: str) -> tuple[str, str]:
    """Return the part of ``prompt`` that fits into the tokenizer's window, and the words that are cut off."""
    words = prompt.split()
    low, high = 0, len(words)
    while low < high:  # the largest number of words whose tokens, with start and end, fit
        middle = (low + high + 1) // 2
        if _count_tokens(tokenizer, " ".join(words[:middle])) <= tokenizer.model_max_length:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low]), " ".join(words[low:])


def _count_tokens(tokenizer, text: str) -> int:
    return len(tokenizer.tokenize(text)) + 2


def _tail(text: str, count: int = 3) -> str:
    return " ".join(text.split()[-count:])


@functools.cache
def known_words(folder: str | None) -> frozenset[str]:
    """Return the words of the training captions: ``words.txt`` in the model's folder; empty where there is none."""
    file = Path(folder or "") / "words.txt"
    return frozenset(file.read_text(encoding="utf-8").split()) if file.is_file() else frozenset()


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case, without punctuation; this is what ``words.txt`` lists.

    >>> words_of("A man, with blue eyes!")
    ['a', 'man', 'with', 'blue', 'eyes']
    """
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())


def unknown_words(text: str, known: frozenset[str]) -> list[str]:
    """Return the words of ``text`` that are not in ``known``, each once; none if nothing is known."""
    return [word for word in dict.fromkeys(words_of(text)) if known and word not in known]
