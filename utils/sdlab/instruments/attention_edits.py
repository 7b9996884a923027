"""Change the cross-attention while the pipeline draws: the idea of prompt-to-prompt, on today's diffusers.

This is the only instrument that swaps the attention processors. It computes the probabilities openly, so that even an
edit that changes nothing gives a picture that is equal only up to rounding.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from ..arguments import check_number, check_weight
from ..compat import attention_layers, check_attention, enclosing_transformer, projections, refuse_ip_adapter, unet_of
from ..errors import SdlabError, context
from .attention_options import choose_layers
from .recording import check_positions
from .unet_calls import follow_calls


@dataclass(frozen=True)
class Place:
    """Where an edit happens: layer, step (out of ``steps`` U-Net calls), and the layer's height and width."""

    layer: str
    step: int
    steps: int
    height: int
    width: int


@context
def edit_attention(pipe, edit: Callable, *, layers: str | Iterable[str] | None = None):
    """Let ``edit`` change the cross-attention of what is drawn inside the block.

    edit: called as edit(attention_probs, place) for each layer and step; attention_probs [images, heads,
        height * width, tokens] are the conditional rows (float, they add up to 1 over the tokens); it returns the
        probabilities to use instead, of the same shape. ``place`` is a ``Place``.
    layers: names or parts of names, such as "up_blocks.1"; by default all.

    The processors that were there are back at the end, also after an error.
    Raises SdlabError: no layer fits, fused or compiled U-Net, edit returns something else.
    Hertz et al., "Prompt-to-Prompt Image Editing with Cross Attention Control", 2022.
    """
    if not callable(edit):
        raise SdlabError(f"edit={edit!r} must be a function of (attention_probs, place), such as keep_maps().")
    unet = unet_of(pipe)
    refuse_ip_adapter(unet, "edit_attention")
    found = choose_layers(attention_layers(unet), layers)
    for name, attn in found.items():
        check_attention(name, attn)
    with ExitStack() as stack:
        calls = stack.enter_context(follow_calls(pipe, many_drawings=True))
        for name, attn in found.items():
            processor = _EditedAttention(name, edit, calls)
            transformer = enclosing_transformer(unet, name)
            stack.callback(transformer.register_forward_pre_hook(processor.keep_size, with_kwargs=True).remove)
            stack.callback(attn.set_processor, attn.processor)
            attn.set_processor(processor)
        yield


class _EditedAttention:
    """An attention processor that shows its probabilities to ``edit``; otherwise it does what diffusers' own do."""

    def __init__(self, name: str, edit: Callable, calls):
        self.name, self.edit, self.calls, self.size = name, edit, calls, (0, 0)

    def keep_size(self, _transformer, args, kwargs) -> None:
        self.size = tuple(kwargs.get("hidden_states", args[0] if args else None).shape[-2:])

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_options):
        to_q, to_k, to_v = projections(attn)
        query, key, value = (  # each [rows * heads, pixels or tokens, head_dim]
            attn.head_to_batch_dim(projection)
            for projection in (to_q(hidden_states), to_k(encoder_hidden_states), to_v(encoder_hidden_states))
        )
        attention_probs = attn.get_attention_scores(query, key, attention_mask)
        attention_probs = attention_probs.unflatten(0, (-1, attn.heads))  # [rows, heads, pixels, tokens]
        attention_probs = self._edit(attention_probs)
        hidden_states = attn.batch_to_head_dim(torch.bmm(attention_probs.flatten(0, 1), value))
        return attn.to_out[1](attn.to_out[0](hidden_states)) / attn.rescale_output_factor

    def _edit(self, attention_probs: torch.Tensor) -> torch.Tensor:
        rows = self.calls.rows
        place = Place(self.name, self.calls.step, self.calls.expected, *self.size)
        before = attention_probs[rows]
        after = self.edit(before.clone(), place)
        if not torch.is_tensor(after) or after.shape != before.shape:
            raise SdlabError(
                f"edit must return probabilities of the shape {list(before.shape)}, not "
                f"{list(after.shape) if torch.is_tensor(after) else type(after).__name__}."
            )
        return torch.cat([attention_probs[: rows.start], after.to(before), attention_probs[rows.stop :]])


def keep_maps(*, until: float = 1.0, source: int = 0) -> Callable:
    """Return an edit that gives all pictures of a batch the maps of picture ``source``: their words stay in place.

    Draw the prompts in one batch from the same noise: pipe(["a man with blue eyes", "a man with green eyes"],
    generator=[torch.Generator().manual_seed(7) for _ in range(2)]). Words are matched by their position.
    until: the share of steps in which the maps are kept; after it each picture goes its own way.
    """
    check_number("until", until, 0, 1, "lie between 0 (never) and 1 (in all steps)")

    def edit(attention_probs, place: Place):
        if not -len(attention_probs) <= source < len(attention_probs):
            raise SdlabError(f"There is no picture {source} in a batch of {len(attention_probs)}: give both prompts.")
        if place.step >= until * place.steps:
            return attention_probs
        return attention_probs[[source]].expand_as(attention_probs)

    return edit


def scale_tokens(tokens: Iterable[int], factor: float = 0.0) -> Callable:
    """Return an edit that multiplies the attention to ``tokens`` by ``factor``; 0 lets the picture not read them.

    tokens: positions, from ``sdlab.prompts.token_positions(pipe, prompt, word)``.
    The other tokens keep their probabilities, so the rows no longer add up to 1.
    """
    positions, factor = list(check_positions("tokens", tokens)), check_weight(factor)

    def edit(attention_probs, _place: Place):
        if max(positions) >= attention_probs.shape[-1]:
            raise SdlabError(f"There is no token {max(positions)}: the U-Net reads {attention_probs.shape[-1]}.")
        attention_probs[..., positions] *= factor
        return attention_probs

    return edit
