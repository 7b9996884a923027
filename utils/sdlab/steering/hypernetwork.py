"""Hypernetworks as image generators use the word: small networks that change what the attention reads.

Before ``to_k`` and before ``to_v`` the input h becomes h + scale * MLP(h); there is one pair of MLPs for every
width of h, shared by all layers of that width. (Not the weight-generating network of Ha, Dai & Le 2016.)
"""

import json
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn

from ..arguments import check_weight
from ..compat import CROSS, SELF, attention_layers, projections, unet_of
from ..errors import SdlabError, context
from ..weights import readable, write_hashes

EXPANSION = 2  # the layer structure "1, 2, 1": width -> 2 * width -> width
START = 0.01  # standard deviation of the first weights


class ResidualMlp(nn.Module):
    """h + scale * MLP(h) for h [..., width]; the MLP has one hidden layer of ``expansion`` widths and a ReLU."""

    def __init__(self, width: int, expansion: int = EXPANSION):
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(width, expansion * width), nn.ReLU(), nn.Linear(expansion * width, width))
        for layer in (self.linear[0], self.linear[2]):
            nn.init.normal_(layer.weight, std=START)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden_states: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return hidden_states + scale * self.linear(hidden_states)


class Hypernetwork(nn.Module):
    """A pair of ``ResidualMlp`` (for keys, for values) for every width in ``widths``.

    kinds: the attention layers it works in: "attn2" (cross-attention: the context) and "attn1" (self-attention).
    expansion: hidden width of every MLP, in widths. shared_with_text: the width of the context where self-attention
    reads that width too: features then have a pair apart from the text's. (In SD 1.5 no width is both.)
    """

    def __init__(
        self,
        widths: list[int],
        kinds: tuple[str, ...] = (CROSS,),
        *,
        expansion: int = EXPANSION,
        shared_with_text: int | None = None,
    ):
        super().__init__()
        self.config = {"widths": sorted(widths), "kinds": list(kinds), "expansion": expansion}
        self.config |= {"shared_with_text": shared_with_text}
        names = {str(width): width for width in sorted(widths)}
        if shared_with_text:
            names[_features(shared_with_text)] = shared_with_text
        self.layers = nn.ModuleDict({name: _pair(width, expansion) for name, width in names.items()})

    @property
    def kinds(self) -> tuple[str, ...]:
        """The attention layers it works in."""
        return tuple(self.config["kinds"])

    @classmethod
    def for_unet(cls, unet, kinds: tuple[str, ...] = (CROSS,), *, expansion: int = EXPANSION) -> "Hypernetwork":
        """Return a new hypernetwork with a pair for every width that ``unet`` reads in these attention layers."""
        layers = {kind: attention_layers(unet, kind).values() for kind in kinds}
        read = {kind: {projections(attn)[1].in_features for attn in found} for kind, found in layers.items()}
        both = max(read.get(CROSS, set()) & read.get(SELF, set()), default=None)
        return cls(list(set().union(*read.values())), kinds, expansion=expansion, shared_with_text=both)

    def pair_for(self, attn, kind: str):
        """Return the MLPs {"k": ..., "v": ...} through which the attention layer ``attn`` of this kind reads."""
        width = projections(attn)[1].in_features
        apart = kind == SELF and _features(width) in self.layers
        return self.layers[_features(width) if apart else str(width)]

    def save(self, folder: str | Path) -> None:
        """Write ``hypernetwork.safetensors`` in float16 (names as in the web UI's files), a config and the hash."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name.removeprefix("layers."): value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "hypernetwork.safetensors")
        (folder / "hypernetwork.safetensors").chmod(0o644)
        (folder / "config.json").write_text(json.dumps(self.config) + "\n")
        write_hashes(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Hypernetwork":
        """Read what ``save`` has written, in float32; SdlabError where it is missing or damaged."""
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise SdlabError(f"There is no hypernetwork in {folder}: it would hold a config.json.")
        with readable(folder, "hypernetwork"):
            config = json.loads((folder / "config.json").read_text())
            found = cls(config.pop("widths"), tuple(config.pop("kinds")), **config)
            weights = load_file(folder / "hypernetwork.safetensors")
            found.load_state_dict({f"layers.{name}": value.float() for name, value in weights.items()})
        return found.eval().requires_grad_(False)


def _pair(width: int, expansion: int) -> nn.ModuleDict:
    return nn.ModuleDict({part: ResidualMlp(width, expansion) for part in ("k", "v")})


def _features(width: int) -> str:
    return f"{width}_features"


@context
def use_hypernetwork(pipe, hypernetwork: Hypernetwork, *, scale: float = 1.0):
    """Let the attention of ``pipe`` (a pipeline or U-Net) read through ``hypernetwork`` inside the block.

    scale 0 is exactly the base model. Everything is taken out at the end, also after an error.
    Raises SdlabError if the widths are not those of this model.
    """
    scale, unet = check_weight(scale), unet_of(pipe)
    if not isinstance(hypernetwork, Hypernetwork):
        raise SdlabError(f"hypernetwork must be a Hypernetwork, but got {type(hypernetwork).__name__}: load it first.")
    layers = [(attn, kind) for kind in hypernetwork.kinds for attn in attention_layers(unet, kind).values()]
    _check_widths(hypernetwork, layers)
    hypernetwork.to(unet.device, unet.dtype)
    with ExitStack() as hooks:
        for attn, kind in layers:
            pair = hypernetwork.pair_for(attn, kind)
            for part, projection in zip("kv", projections(attn)[1:], strict=True):
                handle = projection.register_forward_pre_hook(_reader(pair[part], scale))
                hooks.callback(handle.remove)
        yield pipe


def _reader(mlp: ResidualMlp, scale: float):
    return lambda module, inputs: (mlp(inputs[0], scale), *inputs[1:])


def _check_widths(hypernetwork, layers):
    missing = {str(projections(attn)[1].in_features) for attn, _ in layers} - set(hypernetwork.layers)
    if missing:
        made_for = ", ".join(map(str, hypernetwork.config["widths"]))
        raise SdlabError(
            f"This hypernetwork belongs to another model: it was made for the widths {made_for}, "
            f"but here the attention reads {', '.join(sorted(missing))}."
        )
