"""Train the autoencoder on 64-px crops (half of them around the eyes) and now and then on whole portraits."""

from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from sdlab import SdlabError
from sdlab.images import as_pictures, to_batch

from ..judging.scores import psnr
from ..portraits import NAMES, VALUES
from ..portraits.vocabulary import IMPRESSIONISTS
from .checkpoints import load_weights
from .data import SIZE, VALIDATION_SEED, draw_fresh, load_data
from .judge import load_trained_judge
from .latents import count_denoised, load_denoised
from .loop import Stage
from .randomness import step_generator, step_rng
from .sheets import save_sheet

EYE_RADIUS = 12.0
PAINTED = [VALUES["style"].index(name) for name in IMPRESSIONISTS]


def make_vae(settings):
    """Build the AutoencoderKL that the settings describe."""
    levels = len(settings.block_out_channels)
    return AutoencoderKL(
        block_out_channels=tuple(settings.block_out_channels),
        layers_per_block=settings.layers_per_block,
        norm_num_groups=settings.norm_num_groups,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        sample_size=SIZE,
    )


class VaeObjective(nn.Module):
    """Pictures in, weighted reconstruction loss out."""

    def __init__(self, settings):
        super().__init__()
        self.vae = make_vae(settings)
        self.settings = settings
        self.features = None
        if settings.freeze_encoder:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)

    def forward(self, pictures, weights, noise, *, edge_weight, change=None, latents=None):
        """Return (loss, numbers). pictures [B, 3, H, W], weights [B, 1, H, W], noise [B, 4, h, w].

        latents: [B, 4, h, w], decoded in place of the encoder's.
        """
        settings = self.settings
        posterior = self.vae.encode(pictures).latent_dist
        if latents is None:
            latents = posterior.mean.float() + noise_share(posterior, settings.latent_noise) * noise
        if change is not None:
            latents, pictures, weights = (change(tensor) for tensor in (latents, pictures, weights))
        decoded = self.vae.decode(latents).sample.float()
        error = decoded - pictures
        mse, absolute = (weights * error.square()).mean(), (weights * error.abs()).mean()
        divergence = (
            0.5 * (posterior.mean.float().square() + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        )
        loss = settings.mse_weight * mse + settings.l1_weight * absolute + settings.kl_weight * divergence
        if settings.luma_weight > 0:
            loss = loss + settings.luma_weight * (weights * lightness(error).square()).mean()
        if edge_weight > 0:
            loss = loss + edge_weight * edge_loss(error, weights)
        if self.features is not None:
            near, alike = feature_losses(self.features[0], decoded, pictures)
            loss = loss + settings.perceptual_weight * near + settings.texture_weight * alike
        return loss, {"mse": error.square().mean(), "kl": divergence}


def noise_share(posterior, share):
    """Return the std of what is added to a posterior's mean: its own, and ``share`` of the latents' std in quadrature.

    A decoder that has only seen exact latents draws blotches where a U-Net's are a little wrong.
    """
    std = posterior.std.float()
    if share == 0:
        return std
    spread = posterior.mean.detach().float().std(dim=(0, 2, 3), keepdim=True)
    return (std.square() + (share * spread).square()).sqrt()


def lightness(colors):
    """Return the luma [B, 1, H, W] of colours [B, 3, H, W] (ITU-R BT.601), linear: also of a difference of colours."""
    return torch.einsum("bchw,c->bhw", colors, colors.new_tensor([0.299, 0.587, 0.114]))[:, None]


def edge_loss(error, weights):
    """Return the L1 of the horizontal and vertical differences of the error."""
    across = (error[..., :, 1:] - error[..., :, :-1]).abs() * weights[..., :, 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weights[..., 1:, :]
    return across.mean() + down.mean()


def feature_losses(judge, decoded, pictures):
    """Compare the judge's feature maps of two batches of pictures: (at each place, as textures).

    The first is the mean L1 between the maps, summed over the layers. The second is the same between their Gram
    matrices, in which the place is averaged away (Gatys et al., arXiv 1508.06576): strokes and dots may lie elsewhere,
    but they must be there.
    """
    pairs = list(zip(judge.feature_maps(decoded), judge.feature_maps(pictures.detach()), strict=True))
    near = sum((first - second).abs().mean() for first, second in pairs)
    alike = sum((gram_matrix(first) - gram_matrix(second)).abs().mean() for first, second in pairs)
    return near, alike


def gram_matrix(features):
    """Return the products of the channels of features [B, C, H, W], averaged over the places, [B, C, C]."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def crop_corners(rng, eyes, settings):
    """Choose where crops begin, int array [B, 2] of (x, y): near an eye of eyes [B, 2, 2], or anywhere."""
    count, free, grid = len(eyes), SIZE - settings.crop, settings.crop_step
    corners = rng.integers(0, free // grid + 1, size=(count, 2)) * grid
    which = rng.integers(0, 2, size=count)
    jitter = rng.integers(-settings.crop // 3, settings.crop // 3 + 1, size=(count, 2))
    near = np.rint(eyes[np.arange(count), which]).astype(int) - settings.crop // 2 + jitter
    near = (near + grid // 2) // grid * grid
    return np.where(rng.random((count, 1)) < settings.eye_fraction, near, corners).clip(0, free)


class VaeStage(Stage):
    """The autoencoder stage of `sdlab train`."""

    name = "vae"

    def __init__(self, settings, device):
        super().__init__(settings, device)
        self.objective = VaeObjective(settings)
        self.data = load_data(settings.data)
        self.eyes = np.array(self.data.eyes)
        self.painted = np.flatnonzero(np.isin(self.data.codes[:, NAMES.index("style")], PAINTED))
        self.images = torch.from_numpy(self.data.images).to(device)
        self.denoised = None
        if settings.denoised_share > 0:
            if not settings.freeze_encoder:
                raise SdlabError("denoised_share needs freeze_encoder = true: the latents are of one encoder.")
            self.denoised_count = count_denoised(settings.data)
        options = {"split": "any", "world": self.data.world}
        self.validation, self.validation_plans = draw_fresh(settings.validation_pictures, VALIDATION_SEED, **options)
        if settings.perceptual_weight > 0 or settings.texture_weight > 0:
            self.objective.features = (load_trained_judge(settings.judge).requires_grad_(False).to(device),)

    def compile(self):
        self.objective.vae.encoder.compile()
        self.objective.vae.decoder.compile()

    def draw_batch(self, step, rank):
        settings, rng = self.settings, step_rng(self.settings.seed, step, rank=rank)
        whole = rng.random() < settings.full_fraction
        count = max(1, settings.batch_size // 4) if whole else settings.batch_size
        is_denoised = settings.denoised_share > 0 and rng.random() < settings.denoised_share
        indices = rng.integers(0, self.denoised_count if is_denoised else len(self.data), size=count)
        if settings.painted_share > 0 and not is_denoised:
            among = self.painted[rng.integers(0, len(self.painted), size=count)]
            indices = np.where(rng.random(count) < settings.painted_share, among, indices)
        corners = np.zeros((count, 2), dtype=int) if whole else crop_corners(rng, self.eyes[indices], settings)
        if is_denoised:
            corners = corners // 8 * 8
        eyes = torch.from_numpy(self.eyes[indices] - corners[:, None]).float()
        size = SIZE if whole else settings.crop
        turn = rng.integers(0, 4) if rng.random() < settings.eq_weight else None
        return {
            "indices": torch.from_numpy(indices),
            "corners": torch.from_numpy(corners),
            "eyes": eyes,
            "size": size,
            "turn": turn,
            "is_denoised": is_denoised,
        }

    def loss(self, objective, batch, *, step, rank, progress):
        settings, device, size = self.settings, self.device, batch["size"]
        indices, corners, eyes = (batch[name].to(device) for name in ("indices", "corners", "eyes"))
        across = torch.arange(size, device=device)
        columns, rows = corners[:, :1] + across, corners[:, 1:] + across
        pictures = to_batch(self.images[indices[:, None, None], rows[:, :, None], columns[:, None, :]])
        weights = eye_weights(eyes, across, settings.eye_weight)
        generator = step_generator(settings.seed, step, rank=rank, device=device)
        noise = torch.randn((len(indices), 4, size // 8, size // 8), generator=generator, device=device)
        edge_weight = settings.edge_weight if progress >= settings.edge_from else 0.0
        change = None if batch["turn"] is None else CHANGES[batch["turn"]]
        latents = self._denoised_latents(batch) if batch["is_denoised"] else None
        return objective(pictures, weights, noise, edge_weight=edge_weight, change=change, latents=latents)

    def _denoised_latents(self, batch):
        """Return the windows [B, 4, size / 8, size / 8] of the latents that a U-Net denoised."""
        if self.denoised is None:
            self.denoised = load_denoised(self.settings.data, self.objective.vae)
        places = batch["corners"] // 8
        across = torch.arange(batch["size"] // 8)
        columns, rows = places[:, :1] + across, places[:, 1:] + across
        windows = self.denoised[batch["indices"][:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return windows.permute(0, 3, 1, 2).to(self.device)

    def report(self, folder, step):
        vae, pictures = self.objective.vae, to_batch(self.validation).to(self.device)
        means = torch.cat([vae.encode(part).latent_dist.mean.float() for part in pictures.split(16)])
        decoded = torch.cat([vae.decode(part).sample.float() for part in means.split(16)])
        save_sheet(
            pairs_sheet(self.validation, np.stack(as_pictures(decoded))),
            folder / "samples" / f"{step:06d}.png",
        )
        psnr = picture_psnr(decoded, pictures).cpu()
        styled = torch.tensor([plan.attributes.style != "none" for plan in self.validation_plans])
        return {
            "psnr": {
                "all": float(psnr.mean()),
                "unstyled": float(psnr[~styled].mean()),
                "styled": float(psnr[styled].mean()),
            },
            "latent_std": {str(index): float(value) for index, value in enumerate(means.std(dim=(0, 2, 3)))},
            "latent_mean": {str(index): float(value) for index, value in enumerate(means.mean(dim=(0, 2, 3)))},
        }


CHANGES = (
    lambda tensor: tensor.flip(-1),
    lambda tensor: tensor.flip(-2),
    lambda tensor: tensor.rot90(1, (-2, -1)),
    lambda tensor: functional.interpolate(tensor, scale_factor=0.5, mode="area"),
)


def eye_weights(eyes, across, weight):
    """Return the pixel weights [B, 1, H, W] of crops whose eye centres are eyes [B, 2, 2]."""
    columns = (across - eyes[:, :, 0, None]).square()
    rows = (across - eyes[:, :, 1, None]).square()
    near = (rows[:, :, :, None] + columns[:, :, None, :]).amin(1, keepdim=True) < EYE_RADIUS**2
    return 1.0 + (weight - 1.0) * near


def picture_psnr(decoded, pictures):
    """Return the PSNR of each picture in dB, [N]; both in [-1, 1]."""
    return psnr(decoded.clamp(-1, 1) / 2 + 0.5, pictures / 2 + 0.5)


def pairs_sheet(originals, decoded, *, count=32):
    """Interleave originals and reconstructions, uint8 [2 * count, H, W, 3]."""
    return np.stack([originals[:count], decoded[:count]], axis=1).reshape(-1, *originals.shape[1:])


def load_trained_vae(source):
    """Return the autoencoder of a run folder or checkpoint, with averaged weights, for inference."""
    settings, weights = load_weights(source)
    objective = VaeObjective(SimpleNamespace(**settings))
    objective.load_state_dict(weights)
    return objective.vae.eval().requires_grad_(False)
