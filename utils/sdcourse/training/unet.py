"""Train the U-Net on cached latents, with a new caption, time step and noise for every view."""

from types import SimpleNamespace

import numpy as np
import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from sdlab import SdlabError
from sdlab.images import to_batch

from ..judging import agreement, judge_images
from ..portraits import caption
from .checkpoints import load_weights, weights_hash
from .clip import load_trained_clip
from .data import SIZE, VALIDATION_SEED, draw_fresh, load_data
from .encode import load_latent_vae
from .judge import load_trained_judge
from .latents import around_eyes, load_latents, sample_posteriors
from .loop import Stage
from .randomness import step_generator, step_rng
from .sheets import save_sheet
from .tokenizer import tokenize


def make_unet(settings, *, context, sample_size=16):
    """Build the U-Net that the settings describe: SD 1.5's topology, attention in all levels but the last."""
    plain = len(settings.block_out_channels) - 1
    return UNet2DConditionModel(
        sample_size=sample_size,
        layers_per_block=settings.layers_per_block,
        block_out_channels=tuple(settings.block_out_channels),
        down_block_types=("CrossAttnDownBlock2D",) * plain + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * plain,
        cross_attention_dim=context,
        attention_head_dim=settings.attention_head_dim,
        norm_num_groups=settings.norm_num_groups,
    )


def validation_captions(plans):
    """Return the caption of each validation portrait, the same in every run."""
    rng = np.random.default_rng(0)
    return [caption(plan, rng) for plan in plans]


def make_scheduler(settings):
    """Return SD 1.5's own scheduler with the prediction type of the settings."""
    zero_snr, kind = settings.rescale_betas_zero_snr, settings.prediction_type
    if kind not in ("epsilon", "v_prediction") or (zero_snr and kind == "epsilon"):
        raise SdlabError(
            f"prediction_type must be epsilon, or v_prediction (also with rescale_betas_zero_snr), "
            f"but got {kind!r}, rescale_betas_zero_snr {zero_snr}."
        )
    schedule = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
    }
    schedule |= {"steps_offset": 1, "set_alpha_to_one": False, "prediction_type": kind}
    if zero_snr:
        return DDIMScheduler(
            **schedule, clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing"
        )
    scheduler = PNDMScheduler(**schedule, skip_prk_steps=True)
    scheduler.register_to_config(clip_sample=False)
    return scheduler


def text_encoder_of(clip):
    """Return the text tower of a CLIPModel as the CLIPTextModel that a pipeline holds."""
    encoder = CLIPTextModel(clip.config.text_config)
    encoder.load_state_dict(clip.text_model.state_dict())
    return encoder.eval().requires_grad_(False)


class UnetObjective(nn.Module):
    """Noisy latents in, weighted squared error out."""

    def __init__(self, settings, *, context):
        super().__init__()
        self.unet = make_unet(settings, context=context)

    def forward(self, noisy, timesteps, embeds, target, weights):
        """Return (loss, numbers).

        noisy, target [B, 4, h, w]; timesteps [B]; embeds [B, 77, D]; weights [B, 1, h, w] of the latents' errors.
        """
        noise_pred = self.unet(noisy, timesteps, encoder_hidden_states=embeds, return_dict=False)[0].float()
        errors = (noise_pred - target).square().mean(dim=1, keepdim=True)
        return (weights * errors).mean(), {"mse": errors.mean()}


class UnetStage(Stage):
    """The U-Net stage of `sdlab train`."""

    name = "unet"
    objective_class = UnetObjective

    def __init__(self, settings, device):
        super().__init__(settings, device)
        self.data = load_data(settings.data)
        latents, self.latent_meta = load_latents(settings.data)
        self.latents = torch.from_numpy(latents).to(device)
        clip, self.tokenizer = load_trained_clip(settings.clip, settings.tokenizer)
        self.text_encoder = text_encoder_of(clip).to(device)
        self.text_encoder_hash = weights_hash(self.text_encoder)
        self.objective = self.objective_class(settings, context=self.text_encoder.config.hidden_size)
        self.scheduler = make_scheduler(settings)
        self.alphas_cumprod = self.scheduler.alphas_cumprod.to(device)
        self.vae = load_latent_vae(settings.vae, self.latent_meta).to(device)
        self.judge = load_trained_judge(settings.judge).to(device) if settings.judge else None
        self._make_validation()

    def _make_validation(self):
        count, options = max(1, self.settings.score_prompts), {"split": "any", "world": self.data.world}
        images, plans = draw_fresh(count, VALIDATION_SEED, **options)
        self.validation_captions = validation_captions(plans)
        with torch.no_grad():
            moments = self.vae.encode(
                to_batch(images).to(self.device)
            ).latent_dist.parameters
        self.validation_latents = moments
        self.validation_ids = self.tokenize([item.text for item in self.validation_captions]).to(self.device)

    def info(self):
        latents = {key: value for key, value in self.latent_meta.items() if key != "done"}
        return {"latents": latents, "text_encoder": self.text_encoder_hash}

    def compile(self):
        self.objective.unet.compile()

    def tokenize(self, texts):
        """Return token ids [B, 77] as the pipeline makes them."""
        return tokenize(self.tokenizer, texts)

    def draw_batch(self, step, rank):
        settings, rng = self.settings, step_rng(self.settings.seed, step, rank=rank)
        indices = rng.integers(0, len(self.latents), size=settings.batch_size)
        empty = rng.random(settings.batch_size) < settings.empty_captions
        plans, said = [self.data.plan(index % len(self.data)) for index in indices], settings.absent_said
        texts = [caption(plan, rng, absent_said=said).text for plan in plans]
        texts = ["" if left_out else text for text, left_out in zip(texts, empty, strict=True)]
        return {"indices": torch.from_numpy(indices), "ids": self.tokenize(texts)}

    def loss(self, objective, batch, *, step, rank, progress):
        generator = step_generator(self.settings.seed, step, rank=rank, device=self.device)
        moments = self.latents[batch["indices"].to(self.device)].float()
        timesteps = torch.randint(
            0, len(self.alphas_cumprod), (len(moments),), generator=generator, device=self.device
        )
        embeds = self._embed(batch["ids"].to(self.device), generator)
        return self._denoise(objective, moments, embeds, timesteps, generator, self._weights_of(batch["indices"]))

    def _weights_of(self, indices):
        """Return the weights [B, 1, h, w] of the latents' errors: eye_weight around the eyes, 1 elsewhere."""
        centres = self.data.eyes[indices.numpy() % len(self.data)]
        mirrored = (indices.numpy() >= len(self.data))[:, None]
        centres[..., 0] = np.where(mirrored, SIZE - centres[..., 0], centres[..., 0])
        return around_eyes(centres, self.latents.shape[-1], self.settings.eye_weight).to(self.device)

    @torch.no_grad()
    def _embed(self, ids, generator=None):
        """Return the text encoder's outputs [B, 77, D]; with a generator, some rows lose their padding's outputs.

        Every end token has read the whole caption, so a U-Net can take all it needs from them and never look at
        the words. Where they say only what they say of the empty caption, it has to read the words.
        """
        embeds, share = self.text_encoder(ids)[0], self.settings.padding_dropout
        if generator is None or not share:
            return embeds
        dropped = torch.rand((len(ids), 1, 1), generator=generator, device=self.device) < share
        after = (ids == self.text_encoder.config.eos_token_id).cumsum(1).bool()[..., None]
        empty = self.text_encoder(self.tokenize([""]).to(self.device))[0]
        return torch.where(dropped & after, empty, embeds)

    def _denoise(self, objective, moments, embeds, timesteps, generator, places=1.0):
        """Noise posterior samples to the given time steps and return what the objective makes of them."""
        latents, noise = sample_posteriors(moments, self.vae.config.scaling_factor, generator)
        signal = self.alphas_cumprod[timesteps]
        keep, add = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
        is_epsilon = self.settings.prediction_type == "epsilon"
        target = noise if is_epsilon else keep * noise - add * latents
        weights = min_snr_weights(signal, self.settings.min_snr, is_epsilon=is_epsilon)[:, None, None, None] * places
        return objective(keep * latents + add * noise, timesteps, embeds, target, weights)

    def report(self, folder, step):
        count = len(self.validation_latents)
        timesteps = (torch.arange(count, device=self.device) * 997 + 20) % len(self.alphas_cumprod)
        generator = step_generator(self.settings.seed, 0, device=self.device)
        loss, _ = self._denoise(
            self.objective, self.validation_latents, self._embed(self.validation_ids), timesteps, generator
        )
        numbers = {"validation_loss": float(loss)}
        if self.settings.score_prompts:
            images = self.sample([item.text for item in self.validation_captions])
            save_sheet((images * 255).round().astype(np.uint8), folder / "samples" / f"{step:06d}.png")
            (folder / "samples" / "prompts.txt").write_text(
                "\n".join(item.text for item in self.validation_captions) + "\n"
            )
            numbers |= self._score(images) if self.judge else {}
        return numbers

    def sample(self, prompts):
        """Draw the prompts with the real pipeline; float array [N, 128, 128, 3] in [0, 1]."""
        pipe = make_pipeline(self.vae, self.text_encoder, self.tokenizer, self.objective.unet, self.scheduler)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(index) for index in range(len(prompts))]
        options = {
            "num_inference_steps": self.settings.score_steps,
            "guidance_scale": self.settings.score_guidance,
        }
        return np.asarray(
            pipe(prompts, generator=generators, output_type="np", **options).images, dtype=np.float32
        )

    def _score(self, images):
        readings = judge_images(list(torch.from_numpy(images).permute(0, 3, 1, 2).clamp(0, 1)), self.judge)
        wanted = [item.named for item in self.validation_captions]
        counts = agreement(readings, wanted)
        accuracy = {name: right / count for name, (right, count) in counts.items() if count}
        joint = [
            all(reading.values[name] == value for name, value in named.items())
            for reading, named in zip(readings, wanted, strict=True)
        ]
        overall = sum(right for right, _ in counts.values()) / max(
            1, sum(count for _, count in counts.values())
        )
        portraits = float(np.mean([reading.is_portrait for reading in readings]))
        return {
            "accuracy": accuracy,
            "score": {"named": overall, "joint": float(np.mean(joint)), "is_portrait": portraits},
        }


def min_snr_weights(alphas_cumprod, limit, *, is_epsilon):
    """Return min-SNR weights [B]: min(snr, limit) / snr for epsilon, / (snr + 1) for v (Hang et al. 2023)."""
    if limit <= 0:
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod).clamp_min(1e-8)
    return snr.clamp(max=limit) / (snr.clamp_min(1e-8) if is_epsilon else snr + 1)


def make_pipeline(vae, text_encoder, tokenizer, unet, scheduler):
    """Put the parts together as a genuine StableDiffusionPipeline (without a safety checker)."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_trained_unet(source):
    """Return (U-Net with averaged weights, its settings) of a run folder or checkpoint."""
    settings, weights = load_weights(source)
    settings = SimpleNamespace(**settings)
    context = next(weight.shape[1] for name, weight in weights.items() if name.endswith("attn2.to_k.weight"))
    objective = UnetObjective(settings, context=context)
    objective.load_state_dict(weights)
    return objective.unet.eval().requires_grad_(False), settings
