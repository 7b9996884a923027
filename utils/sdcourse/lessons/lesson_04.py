"""Denoisers of lesson 04, small enough to be understood whole: one exact, without training, and a tiny network."""

import math

import torch
from torch import nn


def exact_noise_pred(noisy, alpha_prod_t, data):
    """Return the best possible prediction of the noise in ``noisy`` when the clean samples are rows of ``data``.

    noisy [n, d], data [m, d]; alpha_prod_t: a number, or [n, 1]. Every row of ``data`` could have become ``noisy``,
    with a probability that falls with the distance; the mean over them is the posterior mean of the clean sample
    (the minimum mean squared error estimate), and the noise follows from it.
    """
    keep, add = alpha_prod_t**0.5, (1 - alpha_prod_t) ** 0.5
    distances = torch.cdist(noisy / keep, data, compute_mode="donot_use_mm_for_euclid_dist")
    weights = torch.softmax(-0.5 * (distances * keep / add) ** 2, dim=1)
    return (noisy - keep * (weights @ data)) / add


class PointDenoiser(nn.Module):
    """A network of four layers that predicts the noise in points [n, 2], told the timestep t [n] or one number.

    Points and timestep enter as sines and cosines of several frequencies, so that the network can tell near ones
    apart (Tancik et al. 2020; the U-Net's timestep embedding is the same idea).
    """

    def __init__(self, width: int = 128, *, num_train_timesteps: int = 1000):
        super().__init__()
        self.num_train_timesteps = num_train_timesteps
        self.register_buffer("point_waves", 2.0 ** torch.arange(4))
        self.register_buffer("time_waves", 0.5 * math.pi * 2.0 ** torch.arange(8))
        layers = [nn.Linear(2 + 4 * 4 + 2 * 8, width), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, points, t):
        t = torch.as_tensor(t, dtype=points.dtype, device=points.device).expand(len(points))
        places = (points[:, :, None] * self.point_waves).flatten(1)
        times = t[:, None] / self.num_train_timesteps * self.time_waves
        return self.layers(torch.cat([points, places.sin(), places.cos(), times.sin(), times.cos()], dim=1))
