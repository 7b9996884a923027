"""Draw pictures with a pipeline: seed, steps, guidance and sampler have their defaults here, in one place."""

import inspect
import warnings

from .arguments import (  # noqa: F401 (handed on)
    check_finite,
    check_negative,
    check_pipeline,
    check_prompts,
    check_settings,
    check_size,
    check_strength,
    check_tensor,
    check_weight,
    seeded_generators,
)
from .compat import quiet
from .errors import SdlabError, context
from .prompts import PromptWarning, check_prompt
from .samplers import use_sampler

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 2.5


def draw(
    pipe,
    prompt: str | list[str] | None = None,
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    sampler: str | None = None,
    num_images: int = 1,
    negative_prompt: str | list[str] | None = None,
    height: int | None = None,
    width: int | None = None,
    **options,
):
    """Return one PIL picture of ``prompt``; a list of them if ``num_images`` is more than 1, or for a list of prompts.

    Picture number i starts from seed + i, so it is the same alone or in a batch. The noise is made on the
    CPU: it does not depend on the device. sampler: one of ``SAMPLERS``; by default the pipeline's own.
    height, width: in pixels, by default the model's own. options: of the pipeline's own call, as they are:
    ``clip_skip``, ``prompt_embeds`` in place of a prompt, ``ip_adapter_image``, ...
    Warns (PromptWarning) of words that do not reach the picture; raises SdlabError for values out of range.
    """
    check_pipeline(pipe)
    check_settings(num_inference_steps, guidance_scale, num_images)
    prompts = _check_text(pipe, prompt, options)
    negative_prompt = check_negative(negative_prompt, len(prompts) or len(options.get("prompt_embeds", ())))
    height, width = check_size(pipe, height, width)
    generators = seeded_generators(seed, num_images * (len(prompts) or len(options["prompt_embeds"])))
    for sentence in dict.fromkeys(sentence for text in prompts for sentence in check_prompt(pipe, text)):
        warnings.warn(sentence, PromptWarning, stacklevel=2)
    with use_sampler(pipe, sampler), quiet(progress=True), _watch_pixels(pipe):  # what is cut off was said above
        made = pipe(
            prompts or None,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            generator=generators,
            **options,
        )
    blank = [number for number, found in enumerate(getattr(made, "nsfw_content_detected", None) or []) if found]
    if blank:
        sentence = f"The model's safety checker has blacked out the pictures {blank} (seed {seed} is picture 0)."
        warnings.warn(sentence, PromptWarning, stacklevel=2)
    return made.images[0] if num_images == 1 and isinstance(prompt, str) else made.images


def _check_text(pipe, prompt, options: dict) -> list[str]:
    """Return the prompts; raise SdlabError for none, for text and embeddings at once, or an option not to be had."""
    unknown = set(options) - set(inspect.signature(type(pipe).__call__).parameters)
    if unknown:
        raise SdlabError(f"draw and {type(pipe).__name__} know no argument {sorted(unknown)[0]!r}.")
    can_skip = hasattr(pipe, "text_encoder_2") or hasattr(pipe.text_encoder, "text_model")
    if options.get("clip_skip") is not None and not can_skip:
        raise SdlabError("clip_skip needs an older transformers: this diffusers cannot skip layers with the new one.")
    if options.get("prompt_embeds") is None:
        return check_prompts(prompt)
    if prompt is not None:
        raise SdlabError("prompt and prompt_embeds cannot both be given: leave one of them out.")
    check_tensor("prompt_embeds", options["prompt_embeds"], ("n", "tokens", pipe.unet.config.cross_attention_dim))
    return []


@context
def _watch_pixels(pipe):
    """Raise SdlabError where the VAE makes NaN, of which diffusers would make a black picture."""

    def look(_decoder, _args, output):
        check_finite(output, "The pixels that the VAE made")

    handle = pipe.vae.decoder.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()
