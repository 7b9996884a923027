"""The patients of lab 12: the pocket model with one intervention built in, to be known by what it does alone.

``examine`` draws with such a model and writes down what every box of the machine got and gave. (Do not read on before
the lab is done.)
"""

import functools
import hashlib
import re
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import torch

from sdlab import SdlabError

from .attempt import Pocket

CASES = {
    "nothing": "the machine is healthy",
    "start noise too strong": "the start noise is multiplied by more than 1",
    "text ignored": "the U-Net reads the empty prompt in place of the prompt",
    "word not read": "cross-attention leaves out one word of the prompt",
    "timestep frozen": "the U-Net is told the same timestep in every step",
    "skip cut": "one skip connection of the U-Net carries zeros",
    "LoRA attached": "the weights of the attention layers are changed by a LoRA",
    "guidance turned round": "the guided prediction is on the wrong side of the unconditional one",
    "wrong schedule": "the scheduler works with other betas",
    "scaling factor forgotten": "the VAE decodes latents that were not divided by the scaling factor",
}
MYSTERIES = {
    "nothing": "the machine is healthy",
    "seed ignored": "the start noise is the same for every seed",
    "red read as blue": "the word 'red' is read as 'blue'",
    "two colours swapped": "where the prompt names two colours, they change places",
    "late text ignored": "below t = 400 the U-Net reads the empty prompt in place of the prompt",
    "LoRA attached": "the LoRA that learned Momo is attached",
    "left and right swapped": "the finished latents are mirrored before the VAE decodes them",
}
COLOURS = ("red", "green", "blue", "purple", "yellow", "orange", "white", "black", "brown")
PROBES = (100, 900)  # the timesteps at which the U-Net is asked about the start noise
STEPS, GUIDANCE, LATE = 3, 4.0, 400


@dataclass(frozen=True)
class Ailment:
    """What is changed, box by box; by default nothing. ``unet``: (pipe, prompt, stack) -> hangs hooks on the U-Net."""

    seed: Callable = int
    text: Callable = str
    noise: float = 1.0
    unet: Callable = lambda pipe, prompt, stack: None
    edit: Callable = lambda probs, positions: probs
    word: str = ""
    guidance: float = GUIDANCE
    betas: str = "scaled_linear"
    latents: Callable = torch.clone
    lora: bool = False


def _read_empty(pipe, _prompt, stack, *, below: int = 10_000):
    from sdlab import encode_prompt

    empty, _ = encode_prompt(pipe, "")

    def replace(_unet, args, options):
        if int(args[1]) >= below:
            return args, options
        return args, {**options, "encoder_hidden_states": empty.expand_as(options["encoder_hidden_states"])}

    stack.callback(pipe.unet.register_forward_pre_hook(replace, with_kwargs=True).remove)


def _freeze(pipe, _prompt, stack, *, t: int):
    def replace(_unet, args, options):
        return (args[0], torch.as_tensor(t), *args[2:]), options

    stack.callback(pipe.unet.register_forward_pre_hook(replace, with_kwargs=True).remove)


def _cut(pipe, _prompt, stack, *, skip: int):
    from sdlab.instruments import edit_skips

    stack.enter_context(edit_skips(pipe, torch.zeros_like, [skip]))


def _leave_out(probs, positions):
    probs[..., positions] = 0
    return probs


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors are equal within 0.01, which leaves room for rounding."""
    return torch.allclose(one, other, rtol=0, atol=1e-2)


def swap_colours(prompt: str) -> str:
    """Return ``prompt`` with its first two colours in each other's places."""
    found = re.findall(rf"\b(?:{'|'.join(COLOURS)})\b", prompt)[:2]
    if len(found) < 2:
        return prompt
    other = dict(zip(found, reversed(found), strict=True))
    return re.sub(rf"\b(?:{'|'.join(found)})\b", lambda match: other[match.group()], prompt)


def make_case(name: str, draws, prompt: str) -> Ailment:
    """Return the ailment ``name`` of ``CASES`` with fresh particulars: which word, which skip, how strong."""
    if name == "start noise too strong":
        return Ailment(noise=draws.uniform(1.35, 1.7))
    if name == "word not read":
        return Ailment(edit=_leave_out, word=draws.choice(prompt.split()[1:4]))
    if name == "timestep frozen":
        return Ailment(unet=functools.partial(_freeze, t=draws.choice([100, 334, 667, 900])))
    if name == "skip cut":
        return Ailment(unet=functools.partial(_cut, skip=draws.integer(0, 11)))
    return {
        "nothing": Ailment(),
        "text ignored": Ailment(unet=_read_empty),
        "LoRA attached": Ailment(lora=True),
        "guidance turned round": Ailment(guidance=-GUIDANCE),
        "wrong schedule": Ailment(betas="linear"),
        "scaling factor forgotten": Ailment(latents=lambda latents: latents * _scaling()),
    }[name]


def _scaling() -> float:
    return Pocket().resolve().vae.config.scaling_factor


_LIVE = {
    "nothing": Ailment(),
    "seed ignored": Ailment(seed=lambda seed: 7),
    "red read as blue": Ailment(text=lambda prompt: re.sub(r"\bred\b", "blue", prompt)),
    "two colours swapped": Ailment(text=swap_colours),
    "late text ignored": Ailment(unet=functools.partial(_read_empty, below=LATE)),
    "LoRA attached": Ailment(lora=True),
    "left and right swapped": Ailment(latents=lambda latents: latents.flip(-1)),
}


@torch.no_grad()
def examine(ailment: Ailment, prompt: str, *, seed: int = 0, num_inference_steps: int = STEPS) -> dict:
    """Draw one picture (DDIM, guidance 4) with an ailing pocket model; return what went in and out of every box."""
    from diffusers import DDIMScheduler

    from sdlab import encode_prompt, guide, predict_noise, start_noise
    from sdlab.instruments import edit_attention
    from sdlab.latents import decode_latents
    from sdlab.steering import SHIPPED, use_lora

    pipe, notes = Pocket().resolve(), _Notes(ailment)
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, beta_schedule=ailment.betas)
    scheduler.set_timesteps(num_inference_steps)
    with use_lora(pipe, SHIPPED["lora"]) if ailment.lora else nullcontext(), ExitStack() as stack:
        notes.find_word(pipe, ailment.text(prompt))
        stack.enter_context(edit_attention(pipe, notes.see))
        embeds, empty = encode_prompt(pipe, ailment.text(prompt))
        ailment.unet(pipe, prompt, stack)
        notes.watch_skips(pipe, stack)
        latents = [start_noise(pipe, seed=ailment.seed(seed)) * ailment.noise]
        unconds, texts, guided = [], [], []
        for t in scheduler.timesteps:
            uncond, text = predict_noise(pipe, latents[-1], t, embeds, negative_prompt_embeds=empty)
            unconds.append(uncond)
            texts.append(text)
            guided.append(guide(uncond, text, ailment.guidance))
            latents.append(scheduler.step(guided[-1], t, latents[-1]).prev_sample)
        attention, skips = notes.attention(), torch.tensor(notes.skips[:12])
        probes = [predict_noise(pipe, latents[0], torch.tensor(t), embeds)[1] for t in PROBES]
    return {
        "prompt": prompt,
        "guidance_scale": GUIDANCE,
        "timesteps": scheduler.timesteps.tolist(),
        "latents": torch.cat(latents),
        "noise_pred_uncond": torch.cat(unconds),
        "noise_pred_text": torch.cat(texts),
        "noise_pred": torch.cat(guided),
        "probes": torch.cat(probes),
        "attention": attention,
        "skips": skips,
        "image": decode_latents(pipe, ailment.latents(latents[-1]))[0],
    }


class _Notes:
    """What is written down inside the U-Net: the maps of its finest attention layers, the strength of each skip."""

    def __init__(self, ailment: Ailment):
        self.ailment, self.positions, self.maps, self.skips = ailment, [], [], []

    def find_word(self, pipe, prompt: str) -> None:
        from sdlab import token_positions

        self.positions = token_positions(pipe, prompt, self.ailment.word) if self.ailment.word else []

    def see(self, probs, place):
        probs = self.ailment.edit(probs, self.positions)
        if place.height == 16:
            self.maps.append(probs.mean(dim=(0, 1)).T.unflatten(1, (place.height, place.width)))
        return probs

    def watch_skips(self, pipe, stack) -> None:
        from sdlab.instruments import edit_skips

        def note(maps):
            self.skips.append(maps.square().mean().sqrt().item())
            return maps

        stack.enter_context(edit_skips(pipe, note, range(12)))

    def attention(self) -> torch.Tensor:
        return torch.stack(self.maps).mean(0)


class Patient:
    """The pocket model with one of the MYSTERIES built in: draw with it and look at what it does."""

    def __init__(self, number: int):
        if number not in range(4):
            raise SdlabError(f"There is no patient {number!r}: there are 1, 2 and 3, and 0 is the healthy model.")
        self.number = number

    def __repr__(self) -> str:
        return f"Patient({self.number})"

    def record(self, prompt: str, *, seed: int = 0, num_inference_steps: int = 10) -> dict:
        """Return what went in and out of every box while a picture was drawn, as in the records of exercise 4."""
        return examine(_LIVE[name_of(self.number)], prompt, seed=seed, num_inference_steps=num_inference_steps)

    def draw(self, prompt: str, *, seed: int = 0, num_inference_steps: int = 10):
        """Return a picture."""
        from sdlab.images import to_pictures

        return to_pictures(self.record(prompt, seed=seed, num_inference_steps=num_inference_steps)["image"])[0]


def name_of(number: int) -> str:
    """Return what the patient has."""
    if number == 0:
        return "nothing"

    def mixed(name):
        return hashlib.sha256(f"ward 74: {name}".encode()).hexdigest()

    return sorted(set(MYSTERIES) - {"nothing"}, key=mixed)[number - 1]
