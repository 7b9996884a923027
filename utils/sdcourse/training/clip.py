"""Train CLIP on portraits and captions: a sigmoid loss (SigLIP, arXiv 2303.15343) against the truth matrix.

We know which caption is true of which portrait, and how well a word fits, so the target of every pair is a
number in [0, 1]; false twins of captions (two values swapped) make the words bind.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from sdlab import SdlabError
from sdlab.images import to_batch

from ..portraits import NAMES, VALUES, caption, compose, truth_matrix
from ..portraits.captions import swap_captions
from ..portraits.vocabulary import VOCABULARIES
from ..portraits.worlds import check_world
from .checkpoints import averaged_weights, load_state
from .data import SIZE, VALIDATION_SEED, draw_fresh, load_data
from .loop import Stage
from .randomness import step_generator, step_rng
from .tokenizer import load_tokenizer, tokenizer_hash

UNNAMED = -100  # cross-entropy leaves these targets out
IMAGE_MEAN = IMAGE_STD = 0.5  # pictures enter the tower in [-1, 1]


def make_clip(settings, tokenizer):
    """Build the CLIPModel that the settings describe, for this tokenizer."""
    size = settings.hidden_size
    tower = {"hidden_size": size, "intermediate_size": 4 * size, "num_hidden_layers": settings.layers}
    tower |= {"num_attention_heads": settings.heads, "projection_dim": settings.projection}
    marks = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = (
        tower | marks | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    )
    vision = tower | {"image_size": SIZE, "patch_size": settings.patch_size}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.projection))


class ClipObjective(nn.Module):
    """Pictures and token ids in, sigmoid loss and attribute losses out."""

    def __init__(self, settings, tokenizer):
        super().__init__()
        self.clip = make_clip(settings, tokenizer)
        self.settings = settings
        self.bias = nn.Parameter(torch.tensor(-5.0))
        self.sizes = [len(VALUES[name]) for name in NAMES]
        self.text_heads = nn.Linear(settings.projection, sum(self.sizes))
        self.token_heads = nn.Linear(settings.hidden_size, sum(self.sizes))
        self.image_heads = nn.Linear(settings.projection, sum(self.sizes))
        if settings.freeze_text:
            self.clip.text_model.requires_grad_(False)  # its projection is not part of a pipeline and may learn

    def forward(self, pictures, input_ids, truth, named, codes, choices=None):
        """Return (loss, numbers).

        pictures [B, 3, 128, 128] in [-1, 1], input_ids [T, L] (the first B are captions of the pictures),
        truth [T, B] in [0, 1], named [T, 8] codes of the attributes a caption names or -100, codes [B, 8];
        choices [4 * V, L], for each subject one caption of each of the V values of all attributes.
        """
        settings = self.settings
        image = embed_images(self.clip, pictures)
        words = self.clip.text_model(input_ids=input_ids)
        text = functional.normalize(self.clip.text_projection(words.pooler_output).float(), dim=-1)
        logits = self.clip.logit_scale.exp() * text @ image.T + self.bias
        pairs = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum() / len(
            image
        )
        text_loss, text_right = self._read(self.text_heads(text), named)
        image_loss, image_right = self._read(self.image_heads(image), codes)
        token_loss = self._read_tokens(words.last_hidden_state, input_ids, named)
        loss = (
            pairs
            + settings.text_heads * text_loss
            + settings.image_heads * image_loss
            + settings.token_heads * token_loss
        )
        numbers = {
            "pairs": pairs,
            "text_heads": text_right,
            "image_heads": image_right,
            "token_loss": token_loss,
        }
        if choices is not None:
            choice_loss, numbers["choices"] = self._choose(image, choices, codes)
            loss = loss + settings.choices * choice_loss
        return loss, numbers

    def _choose(self, image, choices, codes):
        """Return (cross-entropy summed over attributes, share right) of choosing each picture's captions, as zero-shot.

        The captions are of the picture's own subject, but for those that name a subject alone.
        """
        text = embed_ids(self.clip, choices).unflatten(0, (len(VALUES["subject"]), -1))[codes[:, 0]]  # [B, V, D]
        likeness = (text @ image[..., None])[..., 0]
        return self._read(self.clip.logit_scale.exp() / 10 * likeness, codes)

    def _read(self, outputs, targets):
        """Return (cross-entropy summed over attributes, share right) of linear heads."""
        losses, right, known = 0.0, 0, (targets != UNNAMED).sum().clamp_min(1)
        for column, logits in enumerate((10 * outputs.float()).split(self.sizes, dim=-1)):
            total = functional.cross_entropy(
                logits, targets[:, column], ignore_index=UNNAMED, reduction="sum"
            )
            losses = losses + total / len(targets)
            right = right + (logits.argmax(-1) == targets[:, column]).sum()
        return losses, right / known

    def _read_tokens(self, hidden, input_ids, named):
        """Ask the mean over the words' outputs (start and padding left out) for the named attributes."""
        end = (input_ids == self.clip.config.text_config.eos_token_id).int().argmax(-1, keepdim=True)
        place = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        inside = ((place > 0) & (place < end)).to(hidden.dtype)[..., None]
        mean = (hidden * inside).sum(1) / inside.sum(1).clamp_min(1)
        return self._read(self.token_heads(mean) / 10, named)[0]


class ClipStage(Stage):
    """The CLIP stage of `sdlab train`."""

    name = "clip"

    def __init__(self, settings, device):
        super().__init__(settings, device)
        self.tokenizer = load_tokenizer(settings.tokenizer)
        self.objective = ClipObjective(settings, self.tokenizer)
        self.data = load_data(settings.data)
        self.images = torch.from_numpy(self.data.images).to(device)
        self.codes = self.data.codes.astype(np.int64)
        self.world = self.data.world
        self.validation, self.validation_plans = draw_fresh(
            settings.validation_pictures, VALIDATION_SEED, split="any", world=self.world
        )

    def info(self):
        return {"tokenizer": tokenizer_hash(self.tokenizer)}

    def adapt(self, weights):
        """Add new heads to the towers of a shipped CLIP, which has none: they only help to train."""
        heads = {name: weight for name, weight in self.objective.state_dict().items() if not name.startswith("clip.")}
        return heads | weights

    def compile(self):
        self.objective.clip.vision_model.compile()
        self.objective.clip.text_model.compile()

    def draw_batch(self, step, rank):
        settings, rng = self.settings, step_rng(self.settings.seed, step, rank=rank)
        indices = rng.integers(0, len(self.data), size=settings.batch_size)
        plans = [self.data.plan(index) for index in indices]
        captions = [caption(plan, rng) for plan in plans]
        if settings.hard_negatives:
            captions += [twin for item in captions if (twin := swap_captions(item, rng)) is not None]
        ids = {"ids": padded_ids(self.tokenizer, [item.text for item in captions])}
        if settings.choices > 0:
            ids["choices"] = padded_ids(self.tokenizer, choice_captions(rng, world=self.world))
        arrays = {
            "truth": truth_matrix(captions, plans, school=settings.school),
            "named": named_codes(captions),
            "codes": self.codes[indices],
        }
        return {"indices": torch.from_numpy(indices)} | ids | {
            name: torch.from_numpy(array) for name, array in arrays.items()
        }

    def loss(self, objective, batch, *, step, rank, progress):
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        generator = step_generator(self.settings.seed, step, rank=rank, device=self.device)
        pictures = vary(to_batch(self.images[batch["indices"]]), generator, self.settings)
        inputs = (batch["ids"], batch["truth"], batch["named"], batch["codes"])
        return objective(pictures, *inputs, choices=batch.get("choices"))

    def report(self, folder, step):
        clip, tokenizer = self.objective.clip, self.tokenizer
        pictures = to_batch(self.validation).to(self.device)
        image = torch.cat([embed_images(clip, part) for part in pictures.split(64)])
        rng = np.random.default_rng(0)
        return {
            "zero_shot": zero_shot(clip, tokenizer, image, self.validation_plans),
            "swapped": swapped_choice(clip, tokenizer, image, self.validation_plans, rng),
            "logit_scale": float(clip.logit_scale.exp()),
        }


def named_codes(captions):
    """Return the codes of the attributes that captions name, int64 [T, 8]; -100 where nothing is said."""
    rows = [
        [VALUES[name].index(item.named[name]) if name in item.named else UNNAMED for name in NAMES]
        for item in captions
    ]
    return np.array(rows, dtype=np.int64)


def choice_captions(rng, *, world=None):
    """Return 4 * V short captions: for each subject, one for each of the V values of all attributes.

    A subject's own captions name nothing else, so these four are the same for all.
    """
    words = {subject: _some_word(subject, rng, world) for subject in VALUES["subject"]}
    alone = [compose({"subject": subject}, word, world=world).text for subject, word in words.items()]
    texts = []
    for subject in VALUES["subject"]:
        texts += alone
        for name in NAMES[1:]:
            word, options = _some_word(subject, rng, world), {"layout": int(rng.integers(2**31)), "world": world}
            texts += [compose({"subject": subject, name: value}, word, **options).text for value in VALUES[name]]
    return texts


def _some_word(subject, rng, world):
    words = VOCABULARIES[check_world(world)].subjects[subject]
    return words[int(rng.integers(len(words)))]


def vary(pictures, generator, settings):
    """Shift and re-colour pictures [B, 3, H, W] a little."""
    reach, size, device = settings.shift, pictures.shape[-1], pictures.device
    left, top = torch.randint(0, 2 * reach + 1, (2,), generator=generator, device=device).tolist()
    padded = functional.pad(pictures, (reach,) * 4, mode="replicate")[
        ..., top : top + size, left : left + size
    ]
    change = torch.randn((2, len(pictures), 1, 1, 1), generator=generator, device=device) * settings.recolour
    return (padded * (1 + change[0]) + change[1]).clamp(-1, 1)


def embed_images(clip, pictures):
    """Return unit vectors [B, D] of pictures [B, 3, 128, 128] in [-1, 1]."""
    pooled = clip.vision_model(pixel_values=pictures).pooler_output
    return functional.normalize(clip.visual_projection(pooled).float(), dim=-1)


def embed_texts(clip, tokenizer, texts):
    """Return unit vectors [T, D] of texts."""
    return embed_ids(clip, padded_ids(tokenizer, texts).to(clip.logit_scale.device))


def embed_ids(clip, ids):
    """Return unit vectors [T, D] of token ids [T, L]."""
    return functional.normalize(clip.text_projection(clip.text_model(input_ids=ids).pooler_output).float(), dim=-1)


def padded_ids(tokenizer, texts):
    """Return token ids [T, L] of texts, padded to the longest of them."""
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids


def zero_shot(clip, tokenizer, image, plans):
    """Return {attribute: share of images [N, D] whose closest one-attribute caption is true}."""
    scores, codes = {}, np.stack([plan.attributes.codes() for plan in plans])
    for column, name in enumerate(NAMES):
        sums = 0.0
        for subject in ("man", "woman", "cat", "dog"):
            texts = [
                compose(
                    {"subject": subject, name: value}, value if name == "subject" else subject, layout=1
                ).text
                for value in VALUES[name]
            ]
            sums = sums + embed_texts(clip, tokenizer, texts)
        found = (image @ functional.normalize(sums, dim=-1).T).argmax(-1).cpu().numpy()
        scores[name] = float((found == codes[:, column]).mean())
    return scores


def swapped_choice(clip, tokenizer, image, plans, rng):
    """Return the share of images [N, D] that are closer to their caption than to its false twin."""
    pairs = [
        (index, item, swap_captions(item, rng))
        for index, item in enumerate(caption(plan, rng) for plan in plans)
    ]
    pairs = [pair for pair in pairs if pair[2] is not None]
    true, false = (embed_texts(clip, tokenizer, [pair[place].text for pair in pairs]) for place in (1, 2))
    shown = image[[pair[0] for pair in pairs]]
    return float(((shown * true).sum(-1) > (shown * false).sum(-1)).float().mean())


def load_trained_clip(source, tokenizer=None):
    """Return (CLIPModel with averaged weights, CLIPTokenizer) of a run folder or checkpoint."""
    state = load_state(source)
    settings = SimpleNamespace(**state["settings"])
    folder = Path(tokenizer or settings.tokenizer)
    tokenizer = load_tokenizer(folder)
    if tokenizer_hash(tokenizer) != state["info"]["tokenizer"]:
        raise SdlabError(
            f"The CLIP of {source} belongs to another tokenizer than that in {folder}; train CLIP again."
        )
    clip, weights = make_clip(settings, tokenizer), averaged_weights(state)
    towers = {name: weight for name, weight in weights.items() if name.startswith("clip.")}
    clip.load_state_dict({name.removeprefix("clip."): weight for name, weight in towers.items()})
    return clip.eval().requires_grad_(False), tokenizer
