"""What to keep of the attention, and how many bytes that takes: known before the first step is drawn."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from ..arguments import latent_size
from ..compat import CROSS, SELF, attention_layers, layer_sizes, unet_of
from ..errors import SdlabError
from .recording import MAX_BYTES, check_positions, format_bytes


@dataclass(frozen=True)
class Options:
    """What to keep: see ``record_attention``. ``points`` are the queries chosen for self-attention."""

    kind: str = CROSS
    heads: str = "all"
    reduce: str = "sum"
    steps: tuple | None = None
    tokens: tuple | None = None
    points: tuple | None = None
    rows: str = "cond"
    dtype: torch.dtype | None = None
    max_bytes: float = MAX_BYTES

    def __post_init__(self):
        if self.heads not in ("all", "mean"):
            raise SdlabError(f"heads={self.heads!r} must be 'all' (keep every head) or 'mean'.")
        if self.reduce not in ("sum", "none"):
            raise SdlabError(f"reduce={self.reduce!r} must be 'sum' (add the steps up) or 'none' (keep each).")
        for name in ("steps", "tokens"):
            object.__setattr__(self, name, check_positions(name, getattr(self, name)))
        object.__setattr__(self, "points", _points(self.points))

    @property
    def storage(self) -> torch.dtype:
        """The dtype of what is kept."""
        return self.dtype or (torch.float16 if self.reduce == "none" else torch.float32)

    def wants(self, step: int) -> bool:
        """Say whether U-Net call number ``step`` is recorded."""
        return self.steps is None or step in self.steps

    def shape(self, heads: int, text_length: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return [heads, tokens, height, width], what is kept of one layer for one picture and step."""
        rows = text_length if self.kind == CROSS else size[0] * size[1]
        chosen = self.tokens if self.kind == CROSS else self.points
        return (heads if self.heads == "all" else 1, rows if chosen is None else len(chosen), *size)

    def count_bytes(self, shapes, steps: int, batch: int = 1) -> int:
        """Return the bytes that maps of these ``shapes`` take after ``steps`` U-Net calls."""
        kept = sum(self.wants(step) for step in range(steps))
        kept = min(kept, 1) if self.reduce == "sum" else kept
        numbers = sum(torch.Size(shape).numel() for shape in shapes)
        return numbers * batch * kept * self.storage.itemsize


def attention_bytes(
    pipe,
    layers: str | Iterable[str] | None = None,
    *,
    num_inference_steps: int = 50,
    height: int | None = None,
    width: int | None = None,
    batch: int = 1,
    self_attention: bool = False,
    **options,
) -> int:
    """Return the bytes that ``record_attention(pipe, layers, **options)`` would keep of one drawing.

    pipe: a pipeline, or a U-Net, which may lie on the meta device. height, width: of the latents (by default the
    model's own size). num_inference_steps: counts U-Net calls (51 for 50 steps of PNDM).
    """
    unet = unet_of(pipe)
    found = choose_layers(attention_layers(unet, SELF if self_attention else CROSS), layers)
    chosen = Options(kind=SELF if self_attention else CROSS, **options)
    size = latent_size(unet, height, width)
    heads = {name: attn.heads for name, attn in found.items()}
    return chosen.count_bytes(map_shapes(unet, heads, chosen, size), num_inference_steps, batch)


def map_shapes(unet, heads: dict[str, int], options: Options, size, text_length: int = 77) -> list[tuple]:
    """Return the shape [heads, tokens, height, width] of what is kept of each layer, for latents of ``size``."""
    sizes = layer_sizes(unet, *size)
    return [
        options.shape(count, text_length, sizes[next(place for place in sizes if name.startswith(place + "."))])
        for name, count in heads.items()
    ]


def check_bytes(options: Options, shapes_of, steps: int, batch: int) -> int:
    """Return the bytes that will be kept; raise SdlabError above ``max_bytes`` and name what would be cheaper.

    shapes_of: a function that gives the shapes for some Options.
    """
    needed = options.count_bytes(shapes_of(options), steps, batch)
    if needed <= options.max_bytes:
        return needed
    ideas = [{"heads": "mean"}, {"reduce": "sum"}, {"heads": "mean", "reduce": "sum"}]
    cheaper = {
        ", ".join(f"{name}={value!r}" for name, value in idea.items()): other.count_bytes(
            shapes_of(other), steps, batch
        )
        for idea in ideas
        for other in [replace(options, **idea)]
    }
    fitting = [f"{words} keeps {format_bytes(count)}" for words, count in cheaper.items() if count <= options.max_bytes]
    choices = "layers, steps or tokens" if options.kind == CROSS else "layers, steps or points=[(x, y)]"
    raise SdlabError(
        f"These maps would take {format_bytes(needed)}, more than max_bytes={format_bytes(options.max_bytes)}: "
        f"{'; '.join([*fitting[:1], f'choose {choices} to keep less'])}."
    )


def choose_layers(found: dict, layers: str | Iterable[str] | None) -> dict:
    """Return the entries of ``found`` whose name contains one of ``layers``; raise SdlabError if one fits none."""
    if layers is None:
        return dict(found)
    wanted = [layers] if isinstance(layers, str) else list(layers)
    unknown = [part for part in wanted if not any(fits(name, part) for name in found)] if wanted else ["nothing"]
    if unknown:
        names = list(found)
        raise SdlabError(
            f"No attention layer fits {unknown[0]!r}: give a part of one of the {len(names)} names "
            f"from {names[0]} to {names[-1]}."
        )
    return {name: value for name, value in found.items() if any(fits(name, part) for part in wanted)}


def fits(name: str, part: str) -> bool:
    """Say whether ``part`` is whole pieces of a dotted name: 'up_blocks.1' fits 'up_blocks.1.resnets.0'.

    >>> fits("up_blocks.1.attentions.0", "up_blocks.1"), fits("up_blocks.10.attentions.0", "up_blocks.1")
    (True, False)
    """
    return f".{part}." in f".{name}."


def _points(points) -> tuple | None:
    if points is None:
        return None
    points = tuple(tuple(point) for point in points)
    if not points or not all(len(point) == 2 and all(0 <= at <= 1 for at in point) for point in points):
        raise SdlabError(f"points={list(points)} must be (x, y) pairs from 0 to 1: (0.5, 0.25) is upper middle.")
    return points
