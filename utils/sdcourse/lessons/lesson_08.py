"""Lesson 08, measured: does a word's map point at what the word names?"""

import numpy as np
import torch

from sdlab import SdlabError
from sdlab.instruments import record_attention
from sdlab.instruments.attention_maps import AttentionMaps


@torch.no_grad()
def look_at(pipe, images, captions: list[str], *, t: int = 500, seed: int = 0, **options) -> AttentionMaps:
    """Return the attention of one U-Net call on noisy ``images``, each with its caption.

    images: uint8 [height, width, 3], one for each of ``captions``. t: the timestep, 0 (clean) to 999 (noise).
    options: for ``record_attention``. Picture number i has noise from seed + i. Raises SdlabError for other counts.
    """
    steps = len(pipe.scheduler.alphas_cumprod)
    if len(images) != len(captions) or not 0 <= t < steps:
        raise SdlabError(
            f"There are {len(images)} images, {len(captions)} captions and t={t}: give a caption for each image, and t "
            f"from 0 to {steps - 1}."
        )
    pixels = torch.from_numpy(np.stack(images)).to(pipe.device, pipe.vae.dtype).permute(0, 3, 1, 2) / 127.5 - 1
    latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(images))]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in generators])
    timesteps = torch.full((len(images),), t, device=latents.device)
    noisy = pipe.scheduler.add_noise(latents, noise.to(latents), timesteps)
    with record_attention(pipe, **options) as maps:
        prompt_embeds, _ = pipe.encode_prompt(captions, pipe.device, 1, False)
        pipe.unet(noisy.to(pipe.unet.dtype), t, encoder_hidden_states=prompt_embeds)
    return maps


def peak_inside(heat_map: torch.Tensor, mask, *, margin: int = 0) -> bool:
    """Say whether the greatest value of ``heat_map`` [height, width] lies in ``mask``, or ``margin`` pixels around it.

    mask: bool [height, width]. margin: 8 forgives one pixel of the latents, which is all that a map can resolve.
    """
    mask = torch.as_tensor(np.asarray(mask, dtype=bool))
    if mask.shape != heat_map.shape:
        raise SdlabError(f"The map is {list(heat_map.shape)} but the mask {list(mask.shape)}: heat_map(..., size=...).")
    row, column = np.unravel_index(int(heat_map.argmax()), heat_map.shape)
    around = mask[max(0, row - margin) : row + margin + 1, max(0, column - margin) : column + margin + 1]
    return bool(around.any())
