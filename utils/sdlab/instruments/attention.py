"""Record what every word looks at: the attention probabilities of a Stable Diffusion U-Net while it draws.

Hooks keep the queries and keys of an attention layer and, when the layer is done, compute softmax(q k^T * scale) a
second time, in float32. The pipeline itself computes what it always does: its picture is bit for bit the same.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

import torch

from ..arguments import check_text
from ..compat import (
    CROSS,
    SELF,
    attention_layers,
    check_attention,
    eager_attention,
    enclosing_transformer,
    projections,
    text_parts,
    unet_of,
)
from ..errors import SdlabError, context
from ..prompts import prompt_ids, read_ids
from .attention_maps import AttentionMaps
from .attention_options import Options, check_bytes, choose_layers, map_shapes
from .recording import MAX_BYTES
from .unet_calls import encode, follow_calls

CPU_WORK_BYTES, GPU_WORK_BYTES = 2**22, 2**28  # probabilities computed at once: a processor's cache, a GPU's taste


@context
def record_attention(
    pipe,
    layers: str | Iterable[str] | None = None,
    *,
    heads: str = "all",
    reduce: str = "sum",
    steps: Iterable[int] | None = None,
    tokens: Iterable[int] | None = None,
    rows: str = "cond",
    dtype: torch.dtype | None = None,
    max_bytes: float = MAX_BYTES,
    prompt: str | list[str] | None = None,
):
    """Record the cross-attention of one drawing: ``with record_attention(pipe) as maps: pipe(prompt)``.

    layers: names or parts of names, such as "up_blocks.1" or "mid_block"; by default all.
    heads: "all" keeps every head, "mean" their mean. reduce: "sum" adds the steps up (small), "none" keeps each.
    steps: the U-Net calls to record, 0 is the first. tokens: the token positions to keep; by default all 77.
    rows: which rows of the batch: "cond" reads the prompt, "uncond" the negative prompt, "both" is unconditional, then
        conditional. dtype: of what is kept; by default float32 for "sum" and float16 for "none".
    max_bytes: to keep more is refused, before the first step. prompt: only if it was encoded before the ``with``.

    Gives ``AttentionMaps``. Nothing is replaced, and every hook is gone at the end, also after an error.
    Raises SdlabError: no layer fits, fused or compiled U-Net, too much memory, a second drawing, no such step.
    """
    keep = {"heads": heads, "reduce": reduce, "steps": steps, "rows": rows, "dtype": dtype}
    with _record(pipe, layers, Options(CROSS, tokens=tokens, max_bytes=max_bytes, **keep), prompt) as maps:
        yield maps


@context
def record_self_attention(
    pipe,
    layers: str | Iterable[str] | None = None,
    *,
    points: Iterable[tuple[float, float]] | None = None,
    heads: str = "mean",
    reduce: str = "sum",
    steps: Iterable[int] | None = None,
    rows: str = "cond",
    dtype: torch.dtype | None = None,
    max_bytes: float = MAX_BYTES,
):
    """Record the U-Net's self-attention: for each place of the picture, the places it looks at.

    points: (x, y) places in the picture, from 0 to 1, left to right and top to bottom; ``maps.heat_map(i)`` is where
        points[i] looks. By default every pixel of a layer, row by row: choose small layers then (one step of a
        layer of 64 x 64 pixels takes 67 MB).
    The rest is as in ``record_attention``.
    """
    keep = {"heads": heads, "reduce": reduce, "steps": steps, "rows": rows, "dtype": dtype}
    with _record(pipe, layers, Options(SELF, points=points, max_bytes=max_bytes, **keep), None) as maps:
        yield maps


def text_self_attention(pipe, prompt: str) -> torch.Tensor:
    """Return the text encoder's self-attention over a prompt: float32 [layers, heads, tokens, tokens].

    Row i is what token i looks at and adds up to 1; the mask is causal: nothing right of the diagonal. Without padding.
    """
    tokenizer, encoder = text_parts(pipe)
    count = len(prompt_ids(tokenizer, read_ids(tokenizer, [check_text(prompt)])[0])) + 2
    with eager_attention(encoder):
        found = encode(pipe, prompt, output_attentions=True).attentions
    return torch.cat(found)[:, :, :count, :count].float()


@context
def _record(pipe, layers, options: Options, prompt):
    """Hang the hooks on the chosen layers, yield the maps, take the hooks away."""
    unet = unet_of(pipe)
    found = choose_layers(attention_layers(unet, options.kind), layers)
    for name, attn in found.items():
        check_attention(name, attn)
    heads = {name: attn.heads for name, attn in found.items()}
    tokenizer = getattr(pipe, "tokenizer", None) or getattr(pipe, "tokenizer_2", None)
    parts = {"tokenizer": tokenizer, "scale": getattr(pipe, "vae_scale_factor", 8)}
    maps = AttentionMaps(options, heads, **parts)
    with ExitStack() as stack:
        calls = stack.enter_context(follow_calls(pipe, options.rows, prompt=prompt))
        stack.callback(unet.register_forward_pre_hook(partial(_start, maps=maps, calls=calls)).remove)
        for name, attn in found.items():
            _Tap(name, attn, maps, calls).hook(unet, stack)
        stack.callback(unet.register_forward_hook(partial(_end, maps=maps, calls=calls)).remove)
        yield maps
    if calls.step >= 0 and not any(map(options.wants, range(calls.step + 1))):
        raise SdlabError(f"steps={list(options.steps)} fits no step: the drawing had the steps 0 to {calls.step}.")


def _start(unet, _args, *, maps: AttentionMaps, calls) -> None:
    """Before a U-Net call: predict the bytes, and note what the rows read."""

    def shapes(options):
        return map_shapes(unet, maps.heads, options, calls.shape[-2:], calls.text_length)

    maps.predicted_bytes = check_bytes(maps.options, shapes, calls.expected, calls.batch)
    maps.token_ids, maps.latent_size = calls.token_ids, calls.shape[-2:]


def _end(_unet, _args, _output, *, maps: AttentionMaps, calls) -> None:
    if maps.options.wants(calls.step):
        maps.end_step(calls.step, calls.timestep, add_up=maps.options.reduce == "sum")


class _Tap:
    """The hooks of one attention layer: height and width before it, its queries and keys, the maps after it."""

    def __init__(self, name: str, attn, maps: AttentionMaps, calls):
        self.name, self.maps, self.calls = name, maps, calls
        self.projections = projections(attn)[:2]
        self.size = self.query = self.key = None

    def hook(self, unet, stack: ExitStack) -> None:
        """Register the hooks, and let ``stack`` remove them."""
        to_q, to_k = self.projections
        for handle in (
            enclosing_transformer(unet, self.name).register_forward_pre_hook(self._keep_size, with_kwargs=True),
            to_q.register_forward_hook(self._keep_query),
            to_k.register_forward_hook(self._keep_key),
            unet.get_submodule(self.name).register_forward_hook(self._finish, with_kwargs=True),
        ):
            stack.callback(handle.remove)

    def _keep_size(self, _transformer, args, kwargs) -> None:
        self.size = kwargs.get("hidden_states", args[0] if args else None).shape[-2:]

    def _keep_query(self, _module, _args, output) -> None:
        self.query = output

    def _keep_key(self, _module, _args, output) -> None:
        self.key = output

    def _finish(self, attn, _args, kwargs, _output) -> None:
        query, key, self.query, self.key = self.query, self.key, None, None
        if not self.maps.options.wants(self.calls.step):
            return
        if query is None or key is None or projections(attn)[:2] != self.projections:
            raise SdlabError(
                f"The projections of {self.name} changed during the recording (an adapter was loaded, or projections "
                "were fused): change the pipeline first, then record."
            )
        if kwargs.get("attention_mask") is not None:
            raise SdlabError(f"{self.name} uses an attention mask, which Stable Diffusion does not: cannot record it.")
        with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
            rows = range(self.calls.rows.start, self.calls.rows.stop)
            maps = torch.stack([self._map(query[row], key[row], attn) for row in rows])
        self.maps.add(self.name, maps, tuple(self.size))

    def _map(self, query, key, attn) -> torch.Tensor:
        """Return what is kept of one picture: [heads or 1, queries, keys]."""
        options = self.maps.options
        if options.points is not None:
            height, width = self.size
            at = [min(int(y * height), height - 1) * width + min(int(x * width), width - 1) for x, y in options.points]
            query = query[at]
        parts = attention_probabilities(query, key, heads=attn.heads, scale=attn.scale)
        if options.tokens is not None:
            parts = (part[..., list(options.tokens)] for part in parts)
        if options.heads == "mean":
            return sum(part.sum(dim=0, keepdim=True) for part in parts) / attn.heads
        return torch.cat(list(parts))


def attention_probabilities(query, key, *, heads: int, scale: float):
    """Yield softmax(q k^T * scale) of a few heads at a time: float32 [some heads, queries, keys].

    query: [queries, heads * head_dim] and key: [keys, heads * head_dim] of one row of the batch, any float dtype.
    The softmax runs over the keys: Vaswani et al., "Attention Is All You Need", 2017, equation 1.
    """
    # [places, heads * head_dim] -> [places, heads, head_dim] -> [heads, places, head_dim]
    query, key = (tensor.unflatten(-1, (heads, -1)).transpose(0, 1) for tensor in (query, key))
    budget = CPU_WORK_BYTES if query.device.type == "cpu" else GPU_WORK_BYTES
    count = max(1, budget // (4 * query.shape[1] * key.shape[1]))
    for first in range(0, heads, count):
        some = slice(first, first + count)
        # [heads, places, head_dim] @ [heads, head_dim, tokens] -> [heads, places, tokens], each row adding up to 1
        yield torch.bmm(query[some].float() * scale, key[some].float().transpose(1, 2)).softmax(dim=-1)
