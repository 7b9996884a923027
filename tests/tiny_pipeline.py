"""A pipeline folder with random weights and Stable Diffusion's exact shape, small enough to break in tests."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz,"


def save_tiny_pipeline(folder: Path) -> Path:
    """Write a StableDiffusionPipeline of 64 x 64 pixels with random weights to ``folder``."""
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[8] * 4,
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=4,
            sample_size=64,
        ),
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
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


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
