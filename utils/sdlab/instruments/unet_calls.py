"""Follow the calls of a pipeline's U-Net: number, timestep and size, and which prompt each row of the batch reads.

A step is the index of the call, not the timestep: PNDM calls the U-Net 51 times for 50 steps. With guidance diffusers
stacks [unconditional, conditional] rows; who is who is read from what the text encoder returned, not guessed.
"""

from contextlib import ExitStack, contextmanager

import torch

from ..compat import unet_of
from ..errors import SdlabError

ROWS = ("cond", "uncond", "both")


class UNetCalls:
    """The U-Net calls of one drawing: ``step`` and ``timestep`` of the last, its ``rows`` and what they read."""

    def __init__(self, pipe, rows: str, many_drawings: bool = False):
        if rows not in ROWS:
            raise SdlabError(f"rows={rows!r} must be 'cond', 'uncond' or 'both': which rows of the batch to keep.")
        self.pipe, self.kept_rows, self.many_drawings = pipe, rows, many_drawings
        self.step, self.timestep, self.shape = -1, None, None
        self.rows, self.token_ids = slice(0), []
        self._texts, self._embeds, self._new_text = [], None, False

    @property
    def expected(self) -> int:
        """How many calls this drawing takes, as far as the scheduler says; at least those there have been."""
        scheduler = getattr(self.pipe, "scheduler", None)
        known = getattr(scheduler, "num_inference_steps", None)
        return max(self.step + 1, len(scheduler.timesteps) if known else 1)

    @property
    def text_length(self) -> int:
        """How many tokens the U-Net reads: 77."""
        return self._embeds.shape[1]

    @property
    def batch(self) -> int:
        """How many of the rows are kept."""
        return self.rows.stop - self.rows.start

    def saw_text(self, _encoder, args, kwargs, output) -> None:
        """Forward hook of the text encoder: keep the token ids and the states they became."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        states = [output[0], *(getattr(output, "hidden_states", None) or ())[-2:-1]]  # SD 1.x and 2.x; SDXL
        self._texts.append((ids, [state for state in states if state.ndim == 3]))
        self._new_text = self.step >= 0

    def starts(self, _unet, args, kwargs) -> None:
        """Forward pre-hook of the U-Net: read what comes in."""
        names = ("sample", "timestep", "encoder_hidden_states")
        sample, timestep, embeds = (kwargs[n] if n in kwargs else args[i] for i, n in enumerate(names))
        if self._new_text or self.shape not in (None, tuple(sample.shape)):
            if not self.many_drawings:
                raise SdlabError("This recording already holds a drawing: open a new one for the next.")
            self.step, self._new_text = -1, False
        self.step += 1
        self.timestep, self.shape = timestep, tuple(sample.shape)  # not read here: that would make a GPU wait
        if embeds is not self._embeds:
            self._read_rows(embeds)

    def _read_rows(self, embeds) -> None:
        found = [self._sources(row) for row in embeds]
        self._embeds, half = embeds, len(found) // 2
        guided = self._is_guided(found)
        if self.kept_rows == "uncond" and not guided:
            raise SdlabError("rows='uncond' was asked for, but guidance is off: there are no unconditional rows.")
        first, last = (half, 2 * half) if guided else (0, len(found))
        self.rows = {"cond": slice(first, last), "uncond": slice(0, half), "both": slice(0, len(found))}[self.kept_rows]
        self.token_ids = [next((ids for ids in row.values() if ids is not None), None) for row in found[self.rows]]

    def _sources(self, row) -> dict:
        """Return the calls of the text encoder that gave ``row`` [tokens, dim], with the token ids; or what it is."""
        found = {
            call: ids[index]
            for call, (ids, states) in enumerate(self._texts)
            for state in states
            for index, candidate in enumerate(state)
            if torch.equal(row[..., : candidate.shape[-1]], candidate.to(row))
        }
        return found or ({"unknown": None} if row.any() else {"zeros": None})  # SDXL: zeros for no negative prompt

    def _is_guided(self, found: list[dict]) -> bool:
        """Say whether the two halves of the batch come from different texts."""
        if len(found) % 2 or not found:
            return False
        if all("unknown" in row for row in found):  # prompt_embeds were given: only the pipeline knows
            try:
                return bool(self.pipe.do_classifier_free_guidance)
            except AttributeError:
                return False
        first, second = found[: len(found) // 2], found[len(found) // 2 :]
        one, other = (set.intersection(*map(set, half)) for half in (first, second))
        return any(left != right for left in one for right in other)


@contextmanager
def follow_calls(pipe, rows: str = "cond", *, prompt=None, many_drawings: bool = False):
    """Yield the ``UNetCalls`` of what is drawn inside; the hooks are gone afterwards, also after an error.

    prompt: only needed where the prompt was encoded before: a string, or one for each picture.
    many_drawings: count the steps anew for a second drawing, rather than raise SdlabError.
    """
    calls, unet = UNetCalls(pipe, rows, many_drawings), unet_of(pipe)
    encoder = getattr(pipe, "text_encoder", None) or getattr(pipe, "text_encoder_2", None)
    with ExitStack() as stack:
        if encoder is not None:
            stack.callback(encoder.register_forward_hook(calls.saw_text, with_kwargs=True).remove)
        stack.callback(unet.register_forward_pre_hook(calls.starts, with_kwargs=True).remove)
        if prompt is not None:
            for text in ("", prompt):
                encode(pipe, text)
        yield calls


@torch.no_grad()
def encode(pipe, prompt, **options):
    """Return what ``pipe.text_encoder`` says to ``prompt``, a string or several, padded to the tokenizer's length."""
    tokenizer = pipe.tokenizer
    length = {"max_length": tokenizer.model_max_length, "padding": "max_length", "truncation": True}
    ids = tokenizer(prompt, return_tensors="pt", **length).input_ids
    encoder = pipe.text_encoder
    return encoder(ids.to(encoder.device), **{"output_hidden_states": True, **options})
