"""Follow the calls of a pipeline's U-Net: number, timestep and size, and which prompt each row of the batch reads.

A step is the index of the call, not the timestep: PNDM calls the U-Net 51 times for 50 steps. With guidance diffusers
stacks [unconditional, conditional] rows; who is who is read from what came in and what the text encoder returned.
"""

from contextlib import ExitStack

import torch

from ..compat import skipped_states, text_parts, unet_of
from ..errors import SdlabError, context
from ..prompts import read_ids

ROWS = ("cond", "uncond", "both")


class UNetCalls:
    """The U-Net calls of one drawing: ``step`` and ``timestep`` of the last, its ``rows`` and what they read."""

    def __init__(self, pipe, rows: str, many_drawings: bool = False):
        if rows not in ROWS:
            raise SdlabError(f"rows={rows!r} must be 'cond', 'uncond' or 'both': which rows of the batch to keep.")
        self.pipe, self.kept_rows, self.many_drawings = pipe, rows, many_drawings
        self.step, self.timestep, self.shape = -1, None, None
        self.rows, self.token_ids, self.given = slice(0), [], []
        self._texts, self.fresh, self._embeds = [], [], None  # what was encoded for this drawing; since the last call
        self._schedule, self._calls = None, 1

    @property
    def expected(self) -> int:
        """How many calls this drawing takes, as far as the scheduler says; at least those there have been."""
        return max(self.step + 1, self._calls)

    @property
    def text_length(self) -> int:
        """How many tokens the U-Net reads: 77."""
        return self._embeds.shape[1]

    @property
    def batch(self) -> int:
        """How many of the rows are kept."""
        return self.rows.stop - self.rows.start

    def saw_text(self, encoder, args, kwargs, output) -> None:
        """Forward hook of the text encoder: keep the token ids and the states they became."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        hidden = getattr(output, "hidden_states", None) or ()
        usual = [state for state in (output[0], *hidden[-2:-1]) if state.ndim == 3]  # SD 1.x and 2.x; SDXL
        self.fresh.append((ids, usual, encoder, hidden))

    def starts(self, _unet, args, kwargs) -> None:
        """Forward pre-hook of the U-Net: read what comes in."""
        names = ("sample", "timestep", "encoder_hidden_states")
        sample, timestep, embeds = (kwargs[n] if n in kwargs else args[i] for i, n in enumerate(names))
        schedule = getattr(getattr(self.pipe, "scheduler", None), "timesteps", None)
        if self.step < 0 or self._is_next(sample, timestep, schedule):
            self._begin(timestep, schedule)
        self._texts, self.fresh = self._texts + self.fresh, []
        self.step += 1
        self.timestep = timestep
        if embeds is not self._embeds or sample.shape != self.shape:
            self._read_rows(sample, embeds)
        self.shape = tuple(sample.shape)

    def _is_next(self, sample, timestep, schedule) -> bool:
        """Say whether this call begins another drawing: with timesteps set anew, another size, or back in the noise."""
        if schedule is not self._schedule or tuple(sample.shape[1:]) != self.shape[1:]:
            return True
        return bool(self.fresh) and _number(timestep) >= _number(self.timestep)

    def _begin(self, timestep, schedule) -> None:
        if self.step >= 0 and not self.many_drawings:
            raise SdlabError("This recording already holds a drawing: open a new one for the next.")
        if self.fresh:
            self._texts = []  # those of the drawing before
        self.step, self._schedule, self._calls, self._embeds = -1, schedule, self._count(timestep), None

    def _count(self, timestep) -> int:
        """Return how many calls a drawing takes that begins at ``timestep``: fewer where it begins late."""
        scheduler = getattr(self.pipe, "scheduler", None)
        if not (getattr(scheduler, "num_inference_steps", None) or getattr(scheduler, "custom_timesteps", False)):
            return 1
        timesteps = scheduler.timesteps.tolist()
        counts = [len(timesteps) - place for place, t in enumerate(timesteps) if t == _number(timestep)]
        told = getattr(self.pipe, "_num_timesteps", None)  # PNDM has one timestep twice; SDXL may end early
        ends_early = isinstance(getattr(self.pipe, "denoising_end", None), float) and counts and told
        return told if told in counts or ends_early else max(counts, default=1)

    def _read_rows(self, sample, embeds) -> None:
        found = [self._sources(row) for row in embeds]
        before, half = self.batch if self.step else 0, len(found) // 2
        guided = self._is_guided(sample, found)
        if self.kept_rows == "uncond" and not guided:
            raise SdlabError("rows='uncond' was asked for, but guidance is off: there are no unconditional rows.")
        first, last = (half, 2 * half) if guided else (0, len(found))
        self.rows = {"cond": slice(first, last), "uncond": slice(0, half), "both": slice(0, len(found))}[self.kept_rows]
        if before not in (0, self.batch):
            raise SdlabError(
                f"From step {self.step} on there are {self.batch} rows to keep, not {before}, as when guidance stops: "
                "record with rows='cond'."
            )
        self._embeds = embeds
        ids = [next((ids for ids in row.values() if ids is not None), None) for row in found]
        self._name_given(ids, found, first)
        self.token_ids = ids[self.rows]

    def _name_given(self, ids: list, found: list[dict], first: int) -> None:
        """Give the rows of weighted embeddings the token ids of the prompt that was told, if they are as long."""
        told, rows = self.given, range(first, len(ids))
        if len(told) in (1, len(rows)) and len(told[0]) == self._embeds.shape[1]:
            for place, row in enumerate(rows):
                if "unknown" in found[row]:
                    ids[row] = told[place % len(told)]

    def _sources(self, row) -> dict:
        """Return the calls of the text encoder that gave ``row`` [tokens, dim], with the token ids; or what it is."""
        for states_of in (lambda text: text[1], lambda text: skipped_states(text[2], text[3])):
            found = {
                call: text[0][index]
                for call, text in enumerate(self._texts)
                for state in states_of(text)
                for index, candidate in enumerate(state)
                if torch.equal(row[..., : candidate.shape[-1]], candidate.to(row))
            }
            if found:
                return found
        return {"unknown": None} if row.any() else {"zeros": None}  # SDXL: zeros for no negative prompt

    def _is_guided(self, sample, found: list[dict]) -> bool:
        """Say whether the batch holds every picture twice, each half reading another text."""
        half = len(found) // 2
        if not half or len(found) % 2 or not torch.equal(sample[:half], sample[half:]):
            return False  # guidance gives both halves the same latents
        one, other = (set.intersection(*map(set, part)) for part in (found[:half], found[half:]))
        if one and other and not one & other:
            return True
        if one == other and len(one) == 1 and "unknown" not in one:
            return False  # a single call gave all rows: pictures that begin with the same noise
        return bool(getattr(self.pipe, "do_classifier_free_guidance", hasattr(self.pipe, "scheduler")))


def _number(timestep) -> float:
    return float(torch.as_tensor(timestep).flatten()[0])


@context
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
            calls.given = calls.fresh[-1][0].tolist()
        yield calls


@torch.no_grad()
def encode(pipe, prompt, **options):
    """Return what the text encoder of ``pipe`` says to ``prompt``, a string or several, padded to 77 tokens."""
    tokenizer, encoder = text_parts(pipe)
    ids = torch.tensor(read_ids(tokenizer, [prompt] if isinstance(prompt, str) else list(prompt)))
    return encoder(ids.to(encoder.device), **{"output_hidden_states": True, **options})
