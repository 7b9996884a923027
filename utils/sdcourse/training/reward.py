"""Train the U-Net on with a reward: what a critic reads in the pictures it is drawing should be what was asked for.

Beside the usual batch of noised portraits, a row of pictures is being drawn from pure noise, one step of guided DDIM a
training step. At every step the guess at the finished latents is decoded and a critic (a second judge, which scores
nothing) reads it. Its cross-entropy on the attributes that the caption names, and its doubt about those that are left
open (eyes of two colours), are sent back through critic, decoder and this one call of the U-Net. The usual loss
holds the model where it is. (Xu et al. 2023, "ImageReward", section 3, arXiv 2304.05977; gradients through one step
alone: Clark et al. 2023, "DRaFT", arXiv 2309.17400.)
"""

import torch
from torch.nn import functional

from sdlab import SdlabError, ddim_step
from sdlab.samplers import choose_timesteps, pred_original_sample

from ..portraits import NAMES, caption
from .clip import UNNAMED, named_codes
from .judge import load_trained_judge
from .randomness import step_generator, step_rng
from .unet import UnetObjective, UnetStage


class RewardObjective(UnetObjective):
    """The usual loss, and the critic's loss on pictures that are being drawn."""

    def __init__(self, settings, *, context):
        super().__init__(settings, context=context)
        self.settings = settings
        self.frozen = []  # decoder and critic; in a list, so that they are not saved

    def forward(self, noisy, timesteps, embeds, target, weights, drawn):
        """Return (loss, numbers); drawn: {"latents" [C, 4, h, w], "timesteps", "kept" [C], "embeds" [C, 77, D],
        "empty" [1, 77, D], "named" [C, 8]}. The guided predictions are left in drawn["noise_pred"].
        """
        count, guidance = len(drawn["latents"]), self.settings.draw_guidance
        with torch.no_grad():
            empty = drawn["empty"].expand(count, -1, -1)
            plain = self.unet(drawn["latents"], drawn["timesteps"], encoder_hidden_states=empty).sample
        together = (torch.cat(pair) for pair in ((noisy, drawn["latents"]), (timesteps, drawn["timesteps"])))
        told = self.unet(*together, encoder_hidden_states=torch.cat([embeds, drawn["embeds"]])).sample.float()
        noise_pred, told = told[: len(noisy)], told[len(noisy) :]
        errors = (noise_pred - target).square().mean(dim=1, keepdim=True)
        usual = (weights * errors).mean()
        guided = plain + guidance * (told - plain)
        drawn["noise_pred"] = guided.detach()
        missed, right = self._read(guided, drawn)
        return usual + self.settings.reward_weight * missed, {"mse": errors.mean(), "missed": missed, "right": right}

    def _read(self, noise_pred, drawn):
        """Return (what the critic misses in the guesses, the share of named attributes that it finds)."""
        rows = drawn["timesteps"] <= self.settings.reward_below  # those that wait are at the noisiest step
        if not rows.any():
            return noise_pred.sum() * 0.0, noise_pred.sum().detach() * 0.0 + 1.0
        decoder, critic = self.frozen
        kept, named = drawn["kept"][rows], drawn["named"][rows]
        kept_here = kept[:, None, None, None]
        guess = pred_original_sample(noise_pred[rows], drawn["latents"][rows], kept_here)
        logits, portrait = critic(decoder.decode(guess / decoder.config.scaling_factor).sample.clamp(-1.2, 1.2))
        # an error in the noise is sqrt((1 - kept) / kept) times as large in the guess: noisy steps would drown others
        scale = (kept / (1 - kept)).sqrt().clamp(max=1.0)
        missed = self.settings.portrait_weight * functional.softplus(-portrait.float())
        right, known = 0, (named >= 0).sum().clamp_min(1)
        for column, logit in enumerate(logits):
            missed = missed + functional.cross_entropy(logit.float(), named[:, column], reduction="none")
            doubt = torch.distributions.Categorical(logits=logit.float()).entropy()
            missed = missed + self.settings.doubt_weight * doubt * (named[:, column] == UNNAMED)
            right = right + (logit.argmax(-1) == named[:, column]).sum()
        return (scale * missed).mean(), right / known


class RewardStage(UnetStage):
    """The reward stage of `sdlab train`; start it from a trained U-Net with --init."""

    name = "reward"
    objective_class = RewardObjective

    def __init__(self, settings, device):
        super().__init__(settings, device)
        if settings.prediction_type != "epsilon":
            raise SdlabError(f"The reward stage needs a U-Net that predicts epsilon, not {settings.prediction_type!r}.")
        critic = load_trained_judge(settings.critic).requires_grad_(False).to(device)
        self.objective.frozen = [self.vae.requires_grad_(False), critic]
        self.timesteps = torch.tensor([*choose_timesteps(settings.draw_steps), -1])
        self.kept = torch.cat([self.alphas_cumprod.cpu(), torch.ones(1)])  # at -1 the picture is finished
        self.drawn = None

    def state(self):
        """Return the pictures that are being drawn (of the main process; the others begin new ones)."""
        return {} if self.drawn is None else dict(self.drawn)

    def load_state(self, state):
        """Go on with the pictures of ``state``."""
        self.drawn = dict(state) or None

    def loss(self, objective, batch, *, step, rank, progress):
        self._begin(step, rank)
        places = self.timesteps[self.drawn["place"].clamp(min=0)]
        drawn = {name: self.drawn[name].to(self.device) for name in ("latents", "embeds", "named")}
        drawn |= {"timesteps": places.to(self.device), "kept": self.kept[places].to(self.device)}
        drawn["empty"] = self._embed(self.tokenize([""]).to(self.device))
        result = super().loss(
            lambda *inputs: objective(*inputs, drawn), batch, step=step, rank=rank, progress=progress
        )
        self._go_on(drawn["noise_pred"].cpu())
        return result

    def _begin(self, step, rank):
        """Begin pictures where there are none yet, or where one is finished."""
        count, rng = self.settings.drawn, step_rng(self.settings.seed + 1, step, rank=rank)
        if self.drawn is None:
            finished = torch.ones(count, dtype=torch.bool)
            place = -(torch.arange(count) % self.settings.draw_steps)  # some wait, lest all be at the same step
            side = self.latents.shape[-1]
            empty = {"latents": torch.zeros(count, 4, side, side), "place": place}
            width = self.text_encoder.config.hidden_size
            self.drawn = empty | {
                "embeds": torch.zeros(count, self.tokenizer.model_max_length, width),
                "named": torch.zeros(count, len(NAMES), dtype=torch.long),
            }
        else:
            finished = self.drawn["place"] == self.settings.draw_steps
            self.drawn["place"][finished] = 0
        if not finished.any():
            return
        plans = [self.data.plan(index) for index in rng.integers(0, len(self.data), int(finished.sum()))]
        captions = [caption(plan, rng, absent_said=self.settings.absent_said) for plan in plans]
        generator = step_generator(self.settings.seed + 1, step, rank=rank)
        shape = (len(plans), *self.drawn["latents"].shape[1:])
        self.drawn["latents"][finished] = torch.randn(shape, generator=generator)
        ids = self.tokenize([item.text for item in captions]).to(self.device)
        self.drawn["embeds"][finished] = self._embed(ids).cpu()
        self.drawn["named"][finished] = torch.from_numpy(named_codes(captions))

    @torch.no_grad()
    def _go_on(self, noise_pred):
        """Take every picture one step of DDIM further."""
        place, latents = self.drawn["place"], self.drawn["latents"]
        waits, at = (place < 0)[:, None, None, None], place.clamp(min=0)
        here, there = (self.kept[self.timesteps[where]][:, None, None, None] for where in (at, at + 1))
        self.drawn["latents"] = torch.where(waits, latents, ddim_step(noise_pred, latents, here, there))
        self.drawn["place"] = place + 1
