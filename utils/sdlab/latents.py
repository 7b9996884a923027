"""Pictures to latents and back, as Stable Diffusion's pipelines do: ``encode`` and ``decode``."""

from contextlib import contextmanager

import torch

from .arguments import check_finite, check_pipeline, check_tensor
from .errors import SdlabError

ENCODE_BATCH = 16


@torch.no_grad()
def encode(pipe, images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return scaled latents [N, 4, H/8, W/8] (float32, CPU) of pictures [N, 3, H, W] in [-1, 1].

    They are the means of the encoder's distributions, or a sample of each if a CPU ``generator`` is given.
    Raises SdlabError for other shapes, values outside [-1, 1], or sides that the encoder cannot halve evenly.
    """
    check_pipeline(pipe, draws=False)
    _check_images(images, pipe.vae_scale_factor)
    latents = []
    for part in images.split(ENCODE_BATCH):
        found = encode_latents(pipe, part.to(pipe.device, pipe.vae.dtype), generator)
        latents.append(found.float().cpu())
    return torch.cat(latents)


def decode(pipe, latents: torch.Tensor) -> torch.Tensor:
    """Return pictures [N, 3, H, W] in [0, 1] (float32, CPU) of scaled latents [N, 4, h, w].

    Raises SdlabError for latents of another shape.
    """
    check_pipeline(pipe, draws=False)
    check_tensor("latents", latents, ("N", pipe.vae.config.latent_channels, "h", "w"))
    parts = latents.to(pipe.device, pipe.vae.dtype).split(ENCODE_BATCH)
    return torch.cat([decode_latents(pipe, part).float().cpu() for part in parts])


def _check_images(images: torch.Tensor, factor: int) -> None:
    check_tensor("Pictures", images, ("N", 3, "H", "W"))
    if images.shape[2] % factor or images.shape[3] % factor:
        raise SdlabError(
            f"Pictures have the shape [N, 3, H, W] with sides divisible by {factor}, not {list(images.shape)}."
        )
    if images.min() < -1.001 or images.max() > 1.001:
        raise SdlabError(
            f"Pictures have values in [-1, 1], not {images.min():.2f} to {images.max():.2f}: use 2 * image - 1."
        )


@torch.no_grad()
def encode_latents(pipe, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return scaled latents [n, 4, h, w], in the dtype of ``pixels`` [n, 3, H, W]: means, or samples."""
    with _enough_digits(pipe, torch.float16, torch.bfloat16) as vae:
        found = vae.encode(pixels.to(vae.dtype)).latent_dist
        latents = (found.mean if generator is None else found.sample(generator)).to(pixels.dtype)
    factor, shift = vae.config.scaling_factor, _mean_and_std(vae, latents)
    return factor * latents if shift is None else (latents - shift[0]) * factor / shift[1]


@torch.no_grad()
def decode_latents(pipe, latents: torch.Tensor) -> torch.Tensor:
    """Return pictures [n, 3, H, W] in [0, 1] of latents [n, 4, h, w]; raise SdlabError if the VAE makes NaN of them."""
    with _enough_digits(pipe, torch.float16) as vae:
        latents, shift = latents.to(vae.dtype), _mean_and_std(vae, latents)
        factor = vae.config.scaling_factor
        pictures = vae.decode(latents / factor if shift is None else latents * shift[1] / factor + shift[0]).sample
    check_finite(pictures, "The pixels that the VAE made")
    return (pictures / 2 + 0.5).clamp(0, 1)


@contextmanager
def _enough_digits(pipe, *poor: torch.dtype):
    """Yield the VAE, SDXL's in float32 where it is in a ``poor`` dtype and would overflow; it is put back after."""
    vae, own = pipe.vae, pipe.vae.dtype
    upcast = hasattr(pipe, "text_encoder_2") and vae.config.force_upcast and own in poor
    try:
        yield vae.to(torch.float32) if upcast else vae
    finally:
        if upcast:
            vae.to(own)


def _mean_and_std(vae, like: torch.Tensor):
    """Return by which numbers [1, 4, 1, 1] this VAE's latents are shifted and scaled; None for almost all VAEs."""
    found = [getattr(vae.config, name, None) for name in ("latents_mean", "latents_std")]
    return None if None in found else [torch.tensor(numbers).view(1, -1, 1, 1).to(like) for numbers in found]
