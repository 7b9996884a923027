"""What ``record_attention`` gives: maps by layer, step, head and token, and the heat map of a word over the picture."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from ..compat import CROSS
from ..errors import SdlabError
from ..prompts import find_word, prompt_ids, read_text, split_words
from .attention_options import Options, choose_layers
from .recording import Recording, check_positions, find_places


class AttentionMaps(Recording):
    """The attention of one drawing. ``maps[layer]`` is a tensor [steps, images, heads, tokens, height, width].

    With reduce="sum" the steps axis has the length 1 and holds the sum over ``maps.steps``; with heads="mean" the
    heads axis has the length 1. Values are probabilities: over all 77 tokens they add up to 1.
    In self-attention the tokens are the places that look, and height and width the places they look at.
    """

    def __init__(self, options: Options, heads: dict[str, int], *, tokenizer=None, scale: int = 8):
        super().__init__(heads)  # what is kept: [images, heads, queries, keys]
        self.options, self.heads = options, heads
        self.token_ids: list = []
        self.latent_size: tuple[int, int] = (0, 0)
        self.predicted_bytes = 0
        self._tokenizer, self._scale = tokenizer, scale
        self._sizes: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        of = ", ".join(map(repr, self.prompts)) or "no prompt"
        return f"AttentionMaps({of}: {len(self.layers)} layers, {len(self.steps)} steps, {self.nbytes / 1e6:.1f} MB)"

    @property
    def layers(self) -> list[str]:
        """The names of the layers, in execution order."""
        return list(self.heads)

    @property
    def prompts(self) -> list[str]:
        """The prompt of each picture as the text encoder read it; none if it was encoded before."""
        known = [ids for ids in self.token_ids if ids is not None]
        return [read_text(self._tokenizer, prompt_ids(self._tokenizer, ids)) for ids in known]

    def tokens(self, image: int = 0) -> list[str]:
        """Return the tokens of a picture's prompt, from '<|startoftext|>' to the last padding."""
        return self._tokenizer.convert_ids_to_tokens([int(number) for number in self._ids(image)])

    def words(self, image: int = 0) -> list[tuple[str, list[int]]]:
        """Return each word of a picture's prompt, in order, with the positions of its tokens."""
        return split_words(self._ids(image), self._tokenizer)

    def positions(self, word, *, image: int = 0, occurrence: int | None = None) -> list[int]:
        """Return the token positions of a word of the prompt (or of several in a row); numbers stand for themselves."""
        if not isinstance(word, str):
            return list(check_positions("word", word))
        if self.options.kind != CROSS:
            raise SdlabError(f"Self-attention knows no words: give the number of a point instead of {word!r}.")
        return find_word(self._tokenizer, self._ids(image), word, occurrence=occurrence)

    def __getitem__(self, layer: str) -> torch.Tensor:
        """Return one layer's maps [steps, images, heads, tokens, height, width]; a part of its name is enough."""
        found = self.select(layer)
        if len(found) > 1:
            raise SdlabError(f"{layer!r} fits {len(found)} layers: say which, or use select({layer!r}).")
        return next(iter(found.values()))

    def select(self, layers=None, *, steps=None, heads=None, tokens=None, images=None) -> dict[str, torch.Tensor]:
        """Return {layer: maps [steps, images, heads, tokens, height, width]}, each axis narrowed to what is listed.

        layers: names or parts of names. steps: indices of U-Net calls. heads, tokens, images: positions from 0.
        Raises SdlabError for what was not recorded, and before anything was drawn.
        """
        self.check_drawn()
        at_steps = find_places("steps", steps, None if self.options.reduce == "sum" else self.steps)
        at_images = find_places("images", images, range(len(self.token_ids)))
        at_tokens = find_places("tokens", tokens, self._recorded_tokens())
        found = {}
        for name, count in choose_layers(self.heads, layers).items():
            at_heads = find_places("heads", heads, None if self.options.heads == "mean" else range(count))
            kept = self._kept[name][: len(self.steps)]
            chosen = kept if at_steps is None else [kept[at] for at in at_steps]
            chosen = [
                _narrow(maps, at_images, at_heads, at_tokens, cross=self.options.kind == CROSS) for maps in chosen
            ]
            maps = torch.stack(chosen)
            found[name] = maps.unflatten(-1, self._sizes[name])
        return found

    def heat_map(
        self,
        word: str | int | list[int],
        *,
        layers=None,
        steps=None,
        heads=None,
        image: int = 0,
        occurrence: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Return where in the picture ``word`` is looked at: float32 [height, width], mean probabilities.

        The mean over steps, heads and the word's tokens, each layer enlarged to the picture's size (bilinear), then
        the mean over layers. word: of the prompt, "blue eyes" for two in a row, or a token position (0: start token).
        size: (height, width) instead of the picture's. Raises SdlabError if the word is not in the prompt.
        """
        self.check_drawn()
        tokens = self.positions(word, image=image, occurrence=occurrence)
        found = self.select(layers, steps=steps, heads=heads, tokens=tokens, images=image)
        size = size or tuple(length * self._scale for length in self.latent_size)
        means = [maps.float().mean(dim=(0, 1, 2, 3)) / self._summed for maps in found.values()]
        return torch.stack([_enlarge(mean, size, "bilinear") for mean in means]).mean(dim=0)

    def heat_maps(self, words: Iterable | None = None, *, image: int = 0, **options) -> dict[str, torch.Tensor]:
        """Return {word: heat map} of several words, by default of every word of the prompt; see ``heat_map``."""
        if words is not None:
            return {str(word): self.heat_map(word, image=image, **options) for word in words}
        found = {}
        for word, positions in self.words(image):
            name = f"{word} ({positions[0]})" if word in found else word
            found[name] = self.heat_map(positions, image=image, **options)
        return found

    def daam(self, word: str | int, *, layers=None, image: int = 0, occurrence: int | None = None) -> torch.Tensor:
        """Return DAAM's heat map of ``word`` [latent height, latent width]: sums over steps, one bicubic map a head.

        layers: by default all but the middle block, as in the authors' code.
        Raises SdlabError for heads="mean": averaging the heads before bicubic and clamp gives another map.
        Tang et al., "What the DAAM: Interpreting Stable Diffusion Using Cross Attention", 2023, section 3.
        """
        if self.options.heads != "all" or self.options.kind != CROSS:
            raise SdlabError("DAAM's map is made of single heads of cross-attention: record it with heads='all'.")
        self.check_drawn()
        tokens = self.positions(word, image=image, occurrence=occurrence)
        layers = layers or [name for name in self.layers if not name.startswith("mid_block")]
        heads = [
            _enlarge(maps.float().sum(dim=(0, 1)), self.latent_size, "bicubic").clamp(min=0)
            for maps in self.select(layers, tokens=tokens, images=image).values()
        ]
        return torch.cat(heads).mean(dim=(0, 1))

    def token_mass(self, *, layers=None, steps=None, heads=None, image: int = 0) -> torch.Tensor:
        """Return each token's share of the attention [tokens], the mean over pixels, heads, steps and layers.

        With all tokens kept the shares add up to 1; in a trained model most of it goes to the start token.
        """
        found = self.select(layers, steps=steps, heads=heads, images=image)
        return torch.stack([maps.float().mean(dim=(0, 1, 2, 4, 5)) for maps in found.values()]).mean(0) / self._summed

    # while drawing

    def add(self, layer: str, maps: torch.Tensor, size: tuple[int, int]) -> None:
        """Take in the ``maps`` [images, heads, queries, keys] of one layer of ``size`` (height, width) in one step."""
        self._sizes[layer] = size
        self.add_tensor(layer, maps.to(self.options.storage))

    @property
    def _summed(self) -> int:
        return len(self.steps) if self.options.reduce == "sum" else 1

    def _recorded_tokens(self) -> Iterable[int]:
        if self.options.kind == CROSS and self.options.tokens is not None:
            return self.options.tokens
        return range(next(iter(self._kept.values()))[0].shape[-1 if self.options.kind == CROSS else -2])

    def _ids(self, image: int):
        (at,) = find_places("images", image, range(len(self.token_ids)))
        if self.token_ids[at] is None:
            raise SdlabError(
                "Which words these embeddings hold is not known (they were made before, weighted, or of more than one "
                "text's length): give record_attention(..., prompt=...) if its tokens stand where the U-Net reads "
                "them, or positions (numbers) instead of words."
            )
        return self.token_ids[at]


def _narrow(maps, images, heads, tokens, *, cross: bool) -> torch.Tensor:
    """Return the chosen part of one step [images, heads, tokens, pixels]; only that part is copied."""
    if cross:
        maps = maps.transpose(2, 3)  # kept as [images, heads, pixels that ask, tokens that are asked]
    for axis, places in enumerate((images, heads, tokens)):
        if places is not None:
            maps = maps.index_select(axis, torch.tensor(places, device=maps.device))
    return maps


def _enlarge(maps: torch.Tensor, size, mode: str) -> torch.Tensor:
    """Resize maps [..., height, width] to ``size`` (height, width)."""
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size=tuple(size), mode=mode, align_corners=False).reshape(*maps.shape[:-2], *size)
