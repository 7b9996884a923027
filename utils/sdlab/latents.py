"""Pictures to latents and back, as Stable Diffusion's pipelines do: ``encode`` and ``decode``."""


import torch

from .errors import SdlabError

ENCODE_BATCH = 16


@torch.no_grad()
def encode(pipe, images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return scaled latents [N, 4, H/8, W/8] (float32, CPU) of pictures [N, 3, H, W] in [-1, 1].

    They are the means of the encoder's distributions, or a sample of each if a CPU ``generator`` is given.
    Raises SdlabError for other shapes, values outside [-1, 1], or sides that the encoder cannot halve evenly.
    """
    _check_images(images, pipe.vae_scale_factor)
    latents = []
    for part in images.split(ENCODE_BATCH):
        found = pipe.vae.encode(part.to(pipe.device, pipe.vae.dtype)).latent_dist
        latents.append((found.mean if generator is None else found.sample(generator)).float().cpu())
    return torch.cat(latents) * pipe.vae.config.scaling_factor


def decode(pipe, latents: torch.Tensor) -> torch.Tensor:
    """Return pictures [N, 3, H, W] in [0, 1] (float32, CPU) of scaled latents [N, 4, h, w].

    Raises SdlabError for latents of another shape.
    """
    channels = pipe.vae.config.latent_channels
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise SdlabError(f"Latents have the shape [N, {channels}, h, w], not {list(latents.shape)}.")
    parts = latents.to(pipe.device, pipe.vae.dtype).split(ENCODE_BATCH)
    return torch.cat([decode_latents(pipe, part).float().cpu() for part in parts])


def _check_images(images: torch.Tensor, factor: int) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % factor or images.shape[3] % factor:
        raise SdlabError(
            f"Pictures have the shape [N, 3, H, W] with sides divisible by {factor}, not {list(images.shape)}."
        )
    if images.min() < -1.001 or images.max() > 1.001:
        raise SdlabError(
            f"Pictures have values in [-1, 1], not {images.min():.2f} to {images.max():.2f}: use 2 * image - 1."
        )


@torch.no_grad()
def decode_latents(pipe, latents: torch.Tensor) -> torch.Tensor:
    """Return pictures [n, 3, H, W] in [0, 1] of latents [n, 4, h, w]."""
    pictures = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return (pictures / 2 + 0.5).clamp(0, 1)
