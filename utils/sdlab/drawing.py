"""Draw pictures with a pipeline: seed, steps, guidance and sampler have their defaults here, in one place."""

import warnings

from .arguments import check_settings, check_strength, check_weight, seeded_generators  # noqa: F401 (handed on)
from .compat import quiet
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
