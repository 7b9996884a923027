"""A pipeline folder with random weights and Stable Diffusion's exact shape, small enough to break in tests."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
LETTERS = "abcdefghijklmnopqrstuvwxyz,"


def save_tiny_pipeline(folder: Path) -> Path:
    """Write a StableDiffusionPipeline of 64 x 64 pixels with random weights to ``folder``."""
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(folder / "tokenizer_files"),
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=[8] * 4,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
            layers_per_block=1,
        ),
        scheduler=PNDMScheduler(**SCHEDULE, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def sd15_shaped(folder: Path, *, sample_size: int = 16, heads: int = 2) -> StableDiffusionPipeline:
    """Return a pipeline with every block of SD 1.5 at a twentieth of its widths, weights random, attention sharp."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=[16, 32, 64, 64],
        cross_attention_dim=16,
        attention_head_dim=heads,
        norm_num_groups=8,
        layers_per_block=2,
    )
    pipe = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(folder / "tokenizer_files"),
        unet=_sharpen(unet),
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl_shaped(folder: Path) -> StableDiffusionXLPipeline:
    """Return a pipeline with every kind of block of SDXL: two text encoders, deep transformers, three levels."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[16, 32, 64],
        cross_attention_dim=32,
        attention_head_dim=[1, 2, 4],
        transformer_layers_per_block=[1, 2, 3],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
        norm_num_groups=8,
        layers_per_block=2,
    )
    tokenizer = _tokenizer(folder / "tokenizer_files")
    pipe = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_sharpen(unet),
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _sharpen(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Make the random queries large: the attention is then far from even, as in a trained model."""
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if ".to_q." in name:
                weight *= 12
    return unet.eval()


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8] * 4,
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
    )


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2 * len(LETTERS) + 2,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=16,
        bos_token_id=2 * len(LETTERS),
        eos_token_id=2 * len(LETTERS) + 1,
        pad_token_id=2 * len(LETTERS) + 1,
    )


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Return a CLIP tokenizer without merges: every letter is a token."""
    folder.mkdir(parents=True)
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
