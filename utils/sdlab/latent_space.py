"""Into the latent space and back: encode and decode as Stable Diffusion's pipelines do, and what the way costs."""

from contextlib import contextmanager

import torch

from .errors import SdlabError
from .loop import decode_latents

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


def to_tiles(images: torch.Tensor, side: int = 8) -> torch.Tensor:
    """Cut pictures [N, C, H, W] into tiles of ``side`` x ``side``, each a row [N, H/side * W/side, C * side * side]."""
    if images.ndim != 4 or images.shape[2] % side or images.shape[3] % side:
        raise SdlabError(f"Pictures [N, C, H, W] with sides divisible by {side} are cut, not {list(images.shape)}.")
    return torch.nn.functional.unfold(images, side, stride=side).transpose(1, 2)


def from_tiles(tiles: torch.Tensor, height: int, width: int, side: int = 8) -> torch.Tensor:
    """Put the rows of ``to_tiles`` together again: pictures [N, C, height, width]."""
    return torch.nn.functional.fold(tiles.transpose(1, 2), (height, width), side, stride=side)


def psnr(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio [N] in dB of pictures [N, 3, H, W] in [0, 1]; 20 dB: errors of a tenth."""
    if images.shape != others.shape:
        raise SdlabError(f"Pictures of one shape are compared, not {list(images.shape)} and {list(others.shape)}.")
    return -10 * (images - others).square().flatten(1).mean(dim=1).clamp(min=1e-12).log10()


def double_exposure(middle: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> float:
    """Return the share (0..1) of the variance of picture ``middle`` that a mixture of the two others explains.

    1: it is nothing but the two pictures over each other. Least squares with a constant, over all pixels.
    """
    columns = torch.stack([first.flatten(), last.flatten(), torch.ones(first.numel())], dim=1).double()
    target = middle.flatten()[:, None].double()
    rest = target - columns @ torch.linalg.lstsq(columns, target).solution
    return 1 - (rest.var() / target.var()).item()


def cells_for(change: torch.Tensor, share: float) -> int:
    """Return how many cells of a map of squared changes are needed for ``share`` of their sum, largest first."""
    ordered = change.flatten().double().sort(descending=True).values
    return int((ordered.cumsum(0) < share * ordered.sum()).sum()) + 1


@contextmanager
def count_calls(pipe):
    """Count within the ``with`` block how often the VAE's encoder, the U-Net and the VAE's decoder are called."""
    parts = {"encoder": pipe.vae.encoder, "unet": pipe.unet, "decoder": pipe.vae.decoder}
    calls = dict.fromkeys(parts, 0)

    def hook(name):
        def count(*_):
            calls[name] += 1

        return count

    handles = [part.register_forward_hook(hook(name)) for name, part in parts.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def unet_flops(config, side: int) -> int:
    """Return the multiplications and additions of one call of a U-Net of ``config`` on [1, channels, side, side].

    Built on torch's meta device: shapes without numbers, so it needs neither memory nor time. 77 text places.
    """
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        sample = torch.empty(1, unet.config.in_channels, side, side)
        condition = torch.empty(1, 77, unet.config.cross_attention_dim)
        timestep = torch.empty(())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(sample, timestep, encoder_hidden_states=condition)
    return counter.get_total_flops()
