"""The pocket CLIP: both towers, to compare pictures and sentences. The pipeline uses the text tower alone.

CLIP: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sdlab import SdlabError
from sdlab.compat import quiet
from sdlab.weights import MODELS_FOLDER, verify_weights

CLIP_FOLDER = MODELS_FOLDER / "clip"


@dataclass(frozen=True)
class Clip:
    """A ``CLIPModel``, its tokenizer and its image processor."""

    model: torch.nn.Module
    tokenizer: object
    processor: object


def load_clip(folder=CLIP_FOLDER) -> Clip:
    """Load the pocket CLIP in float32, after comparing its hash; raise SdlabError if it is missing or damaged."""
    from transformers import CLIPModel, CLIPTokenizer

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise SdlabError(f"There is no CLIP model in {folder}: get the course files again.")
    verify_weights(folder)
    with quiet():
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return Clip(
        model.eval().requires_grad_(False),
        CLIPTokenizer.from_pretrained(folder, local_files_only=True),
        _image_processor().from_pretrained(folder, local_files_only=True),
    )


def _image_processor():
    """Return the processor that needs no torchvision, by the name that this transformers has for it."""
    import transformers

    return getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor


@torch.inference_mode()
def image_features(clip: Clip, images, *, batch_size: int = 64) -> torch.Tensor:
    """Return unit vectors [N, projection width] for PIL pictures or uint8 arrays [H, W, 3]."""
    vectors = []
    for start in range(0, len(images), batch_size):
        part = [np.asarray(image) for image in images[start : start + batch_size]]
        pixels = clip.processor(images=part, return_tensors="pt")["pixel_values"]
        vectors.append(clip.model.visual_projection(clip.model.vision_model(pixel_values=pixels).pooler_output))
    return torch.nn.functional.normalize(torch.cat(vectors), dim=-1)


@torch.inference_mode()
def text_features(clip: Clip, texts, *, batch_size: int = 256) -> torch.Tensor:
    """Return unit vectors [N, projection width] for sentences."""
    vectors = []
    for start in range(0, len(texts), batch_size):
        tokens = clip.tokenizer(
            list(texts[start : start + batch_size]),
            padding="max_length",
            truncation=True,
            max_length=clip.tokenizer.model_max_length,
            return_tensors="pt",
        )
        pooled = clip.model.text_model(**tokens).pooler_output
        vectors.append(clip.model.text_projection(pooled))
    return torch.nn.functional.normalize(torch.cat(vectors), dim=-1)
