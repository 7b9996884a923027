"""The map of a U-Net: every block in execution order with live shapes and parameters, and the letter U drawn from it.

The shapes come from a real forward pass on torch's meta device, which computes shapes and nothing else: a full-size
U-Net is mapped in a second without a weight in memory.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import torch

from ..arguments import latent_size
from ..compat import is_hooked, left_hand_layers, refuse_ip_adapter, right_hand_blocks, unet_of
from ..errors import SdlabError
from .configs import build_on_meta

_PARTS = ("resnets", "attentions", "downsamplers", "upsamplers")


@dataclass(frozen=True)
class TableRow:
    """One block (level 0) or one of its sub-modules (level 1); shapes are (channels, height, width) or (channels,)."""

    name: str
    class_name: str
    input: tuple
    output: tuple
    parameters: int
    share: float
    level: int


@dataclass(frozen=True)
class Skip:
    """One skip connection: ``source`` puts ``shape`` aside; ``target`` reads it beside ``from_below`` channels."""

    source: str
    target: str
    shape: tuple
    from_below: int


@dataclass(frozen=True)
class UNetTable:
    """The rows of a U-Net in execution order; shows itself as a table. The level 0 rows add up to ``parameters``."""

    rows: list[TableRow]
    skips: list[Skip]
    parameters: int

    @property
    def blocks(self) -> list[TableRow]:
        """The rows of level 0."""
        return [row for row in self.rows if row.level == 0]

    def __getitem__(self, name: str) -> TableRow:
        """Return the row called ``name``."""
        for row in self.rows:
            if row.name == name:
                return row
        raise SdlabError(f"There is no row {name!r}: the rows are {', '.join(row.name for row in self.rows)}.")

    def __repr__(self) -> str:
        """Return the table as text, sub-modules indented."""
        head = f"{'name':32}{'class':26}{'input':>16}{'output':>16}{'parameters':>15}{'share':>8}"
        return "\n".join([head, *(_line(row) for row in self.rows), f"{'all':90}{self.parameters:15,}{1:8.1%}"])

    def _repr_html_(self) -> str:
        cells = [(f"{'&emsp;' * row.level}{row.name}", row.class_name, *_numbers(row)) for row in self.rows]
        cells.append(("all", "", "", "", f"{self.parameters:,}", "100.0%"))
        head = "".join(f"<th>{name}</th>" for name in ("name", "class", "input", "output", "parameters", "share"))
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in cells)
        return f"<table><tr>{head}</tr>{body}</table>"


def unet_table(pipe="sd15", *, height: int | None = None, width: int | None = None) -> UNetTable:
    """Return one row per block and sub-module of a U-Net in execution order, and its skip connections.

    pipe: a pipeline, a U-Net, a U-Net config (a dict), or "sd15" or "sdxl" for those models' published configs.
    height, width: of the latents; by default the size the model was trained on. Shapes leave out the batch.
    Raises SdlabError: unknown name, no such U-Net, compiled U-Net, a size that it cannot take.
    """
    unet = pipe if hasattr(pipe, "unet") or hasattr(pipe, "forward") else build_on_meta(pipe)
    unet = unet_of(unet)
    refuse_ip_adapter(unet, "unet_table")
    bare = build_on_meta(dict(unet.config)) if is_hooked(unet) else unet  # steering and recordings see no call on meta
    order, shapes, residuals = _walk(bare, *latent_size(unet, height, width))
    total = sum(weight.numel() for weight in unet.parameters())
    rows = [_row(name, unet.get_submodule(name), shapes[name], total) for name in order]
    return UNetTable(rows, _skips(unet, residuals, shapes), total)


def _walk(unet, height: int, width: int) -> tuple[list, dict, list]:
    """Run ``unet`` on the meta device; return names in execution order, their shapes, and the residuals put aside."""
    order, shapes, residuals = [], {}, []

    def enter(name, _module, args, kwargs):
        order.append(name)
        tensors = [value for value in (*args, *kwargs.values()) if torch.is_tensor(value)]
        shapes[name] = [tuple(tensors[0].shape[1:]) if tensors else ()]

    def leave(name, _module, _args, output):
        first = output if torch.is_tensor(output) else output[0]
        shapes[name].append(tuple(first.shape[1:]))
        if name == "conv_in":
            residuals.append((name, shapes[name][1]))
        elif name.startswith("down_blocks.") and name.count(".") == 1:
            residuals.extend(_put_aside(unet, name, output[1]))

    with ExitStack() as stack:
        for name in _names(unet):
            module = unet.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(_named(enter, name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(_named(leave, name)).remove)
        _call_on_meta(unet, height, width)
    return order, shapes, residuals


def _named(hook, name: str):
    return lambda *arguments: hook(name, *arguments)


def _names(unet) -> list[str]:
    """Return the names of the blocks and of the sub-modules one level down."""
    names = []
    for name, module in unet.named_modules():
        pieces = name.split(".")
        is_block = len(pieces) == 1 and name and not isinstance(module, torch.nn.ModuleList)
        is_numbered = len(pieces) == 2 and pieces[0] in ("down_blocks", "up_blocks")
        is_part = len(pieces) > 2 and pieces[-2] in _PARTS and pieces[-1].isdigit() and len(pieces) <= 4
        names += [name] if is_block or is_numbered or is_part else []
    return names


def _put_aside(unet, name: str, outputs) -> list[tuple[str, tuple]]:
    """Return (source, shape) of what a left-hand block puts aside: after each layer, and after its Downsample2D."""
    sources = [f"{name}.{layer}" for layer in left_hand_layers(unet.get_submodule(name))]
    return [(source, tuple(output.shape[1:])) for source, output in zip(sources, outputs, strict=False)]


@torch.no_grad()
def _call_on_meta(unet, height: int, width: int) -> None:
    config = unet.config
    weights = {name: weight.to("meta") for name, weight in (*unet.named_parameters(), *unet.named_buffers())}
    sample = torch.empty(1, config.in_channels, height, width, device="meta", dtype=unet.dtype)
    words = torch.empty(1, 77, config.cross_attention_dim, device="meta", dtype=unet.dtype)
    added = None
    if config.addition_embed_type == "text_time":  # SDXL: a pooled text vector and six numbers on size and crop
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {
            "text_embeds": torch.empty(1, pooled, device="meta", dtype=unet.dtype),
            "time_ids": torch.empty(1, 6, device="meta", dtype=unet.dtype),
        }
    timestep = torch.zeros(1, device="meta")
    try:
        torch.func.functional_call(unet, weights, (sample, timestep, words), {"added_cond_kwargs": added})
    except RuntimeError as error:
        raise SdlabError(f"This U-Net cannot take latents of {height} x {width}: {error}") from error


def _row(name: str, module, shapes: list, total: int) -> TableRow:
    count = sum(weight.numel() for weight in module.parameters())
    pieces = name.split(".")
    level = int(pieces[-2] in _PARTS) if len(pieces) > 1 else 0
    return TableRow(name, type(module).__name__, *shapes, count, count / total, level)


def _skips(unet, residuals: list, shapes: dict) -> list[Skip]:
    """Pair what was put aside with the right-hand ResnetBlocks: the last aside is the first to be read."""
    targets = [name for name, *_ in right_hand_blocks(unet)]
    return [
        Skip(source, target, shape, shapes[target][0][0] - shape[0])
        for target, (source, shape) in zip(targets, reversed(residuals), strict=True)
    ]


def _numbers(row: TableRow) -> tuple[str, str, str, str]:
    return _shape(row.input), _shape(row.output), f"{row.parameters:,}", f"{row.share:.1%}"


def _line(row: TableRow) -> str:
    first, last, count, share = _numbers(row)
    return f"{'  ' * row.level + row.name:32}{row.class_name:26}{first:>16}{last:>16}{count:>15}{share:>8}"


def _shape(shape: tuple) -> str:
    return "x".join(map(str, shape)) or "1"
