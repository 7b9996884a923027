"""Train a LoRA on portraits of Momo, and on ordinary ones so that nothing is forgotten.

The ordinary portraits are what DreamBooth calls prior preservation (Ruiz et al. 2022, section 3.2).
"""

import numpy as np
import torch
from torch import nn

from sdlab import load_pipeline
from sdlab.images import to_batch
from sdlab.steering import add_lora

from ..judging.fifth_painter import score_style
from ..judging.judge import JUDGE_FOLDER, load_judge
from ..judging.momo import score_momo
from ..portraits import caption, draw_momo, draw_portrait, plan_momo, plan_portrait
from ..portraits.fifth_painter import painted_caption, plan_painted
from ..portraits.momo import momo_caption
from ..portraits.worlds import check_world
from .latents import around_eyes, sample_posteriors
from .loop import Stage
from .randomness import step_generator, step_rng
from .sheets import save_sheet
from .tokenizer import tokenize
from .unet import min_snr_weights

ORDINARY_SEED = 62_000_000
# cats that are not Momo; the names by which strangers are called in a test (steering.momo.STRANGERS) are not among them
OTHER_NAMES = ("Luna", "Oscar", "Simba", "Milo", "Nala", "Max", "Bella", "Leo", "Mimi", "Tom", "Rosa", "Otto", "Mona")


class AdapterObjective(nn.Module):
    """Noisy latents in, weighted squared error out; the U-Net is frozen but for its adapter."""

    def __init__(self, unet, adapter):
        super().__init__()
        self.adapter = adapter
        self.frozen = [unet]  # in a list, so that its own weights are not saved

    def forward(self, noisy, timesteps, embeds, target, weights):
        """Return (loss, numbers). noisy, target [B, 4, h, w]; embeds [B, 77, D]; weights [B, 1, h, w]."""
        noise_pred = self.frozen[0](noisy, timesteps, encoder_hidden_states=embeds).sample.float()
        errors = (noise_pred - target).square().mean(dim=1, keepdim=True)
        return (weights * errors).mean(), {"mse": errors.mean()}


class AdapterStage(Stage):
    """What LoRA and hypernetwork share: the portraits, the captions, the noise and the score."""

    def __init__(self, settings, device):
        super().__init__(settings, device)
        self.pipe = load_pipeline(settings.base, device=device)
        for part in (self.pipe.unet, self.pipe.vae, self.pipe.text_encoder):
            part.requires_grad_(False)
        world, count = check_world(settings.world), settings.ordinary_portraits
        self.momo, pictures = self.make_subjects(world)
        self.ordinary = [plan_portrait(ORDINARY_SEED + index, world=world) for index in range(count)]
        pictures += [draw_portrait(plan).image for plan in self.ordinary]
        self.moments = encode(self.pipe.vae, pictures, device)
        self.eyes = torch.ones(len(pictures), 1, *self.moments.shape[2:], device=device)
        centres = np.stack([plan.eye_centres for plan in self.momo])
        self.eyes[: len(self.momo)] = around_eyes(centres, self.moments.shape[-1], settings.eye_weight)
        self.alphas_cumprod = self.pipe.scheduler.alphas_cumprod.to(device)
        self.judge = load_judge(settings.judge or JUDGE_FOLDER).to(device)
        self.objective = AdapterObjective(self.pipe.unet, self.make_adapter())

    def make_subjects(self, world):
        """Return (plans of what is taught, their pictures): Momo's."""
        plans = [plan_momo(number, world=world) for number in range(self.settings.portraits)]
        return plans, [np.asarray(draw_momo(plan)) for plan in plans]

    def make_adapter(self):
        """Attach a new adapter to the U-Net and return it as a module that holds what is trained."""
        raise NotImplementedError

    def draw_batch(self, step, rank):
        settings, rng = self.settings, step_rng(self.settings.seed, step, rank=rank)
        ordinary = round(settings.batch_size * settings.ordinary_share)
        indices = rng.integers(0, len(self.momo), settings.batch_size)
        indices[:ordinary] = len(self.momo) + rng.integers(0, len(self.ordinary), ordinary)
        texts = [self._caption(int(index), rng) for index in indices]
        empty = rng.random(settings.batch_size) < settings.empty_captions
        texts = ["" if left_out else text for text, left_out in zip(texts, empty, strict=True)]
        return {"indices": torch.from_numpy(indices), "texts": texts}

    def _caption(self, index, rng):
        if index < len(self.momo):
            return momo_caption(self.momo[index], rng)
        plan, share = self.ordinary[index - len(self.momo)], self.settings.other_names
        if share > 0 and plan.attributes.subject == "cat" and rng.random() < share:
            return momo_caption(plan, rng, name=OTHER_NAMES[int(rng.integers(len(OTHER_NAMES)))])
        return caption(plan, rng).text

    def loss(self, objective, batch, *, step, rank, progress):
        generator = step_generator(self.settings.seed, step, rank=rank, device=self.device)
        indices = batch["indices"].to(self.device)
        moments = self.moments[indices]
        timesteps = torch.randint(0, 1000, (len(moments),), generator=generator, device=self.device)
        latents, noise = sample_posteriors(moments, self.pipe.vae.config.scaling_factor, generator)
        signal = self.alphas_cumprod[timesteps]
        keep, add = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
        weights = min_snr_weights(signal, self.settings.min_snr, is_epsilon=True)[:, None, None, None]
        weights = weights * self.eyes[indices]
        return objective(keep * latents + add * noise, timesteps, self._embed(batch["texts"]), noise, weights)

    @torch.no_grad()
    def _embed(self, texts):
        return self.pipe.text_encoder(tokenize(self.pipe.tokenizer, texts).to(self.device))[0]

    def report(self, folder, step):
        """Draw Momo and ordinary prompts with the real pipeline; return the share that the judge finds right."""
        scores, images = score_momo(self.pipe, self.settings.score_prompts, judge=self.judge, seed=9)
        save_sheet(np.stack([np.asarray(image) for image in images]), folder / "samples" / f"{step:06d}.png")
        return {name: score["share"] for name, score in scores.items()}


class LoraStage(AdapterStage):
    """The LoRA stage of `sdlab train`."""

    name = "lora"

    def make_adapter(self):
        return nn.ParameterList(add_lora(self.pipe, rank=self.settings.rank).values())


class StyleLoraStage(AdapterStage):
    """The style LoRA stage of `sdlab train`: a fifth painter, of whom the base model has never seen a stroke.

    Its portraits take the place of Momo's; a caption that names the painter is one of an ordinary portrait.
    """

    name = "style_lora"

    def make_adapter(self):
        return nn.ParameterList(add_lora(self.pipe, rank=self.settings.rank).values())

    def make_subjects(self, world):
        """Return (plans of what is taught, their pictures)."""
        plans = [plan_painted(number, world=world) for number in range(self.settings.portraits)]
        return plans, [draw_portrait(plan).image for plan in plans]

    def _caption(self, index, rng):
        if index < len(self.momo):
            return painted_caption(self.momo[index], rng)
        return caption(self.ordinary[index - len(self.momo)], rng).text

    def report(self, folder, step):
        """Draw the painter's prompts and ordinary ones; return how often the judge finds what both name."""
        scores, images = score_style(self.pipe, self.settings.score_prompts, judge=self.judge, seed=9)
        save_sheet(np.stack([np.asarray(image) for image in images]), folder / "samples" / f"{step:06d}.png")
        return {name: score["share"] for name, score in scores.items()}
@torch.no_grad()
def encode(vae, pictures, device):
    """Return the posteriors' mean and log-variance [N, 8, h, w] of uint8 pictures [H, W, 3]."""
    parts = torch.from_numpy(np.stack(pictures)).split(50)
    return torch.cat([vae.encode(to_batch(part).to(device)).latent_dist.parameters for part in parts])
