"""Two small problems from our own portraits whose loss landscapes can be seen whole.

``NoiseSamples``: what is the noise on a pixel? A network of two weights, and one valley.
``EyeSearch``: where in a portrait are the eyes? The place of a window, and many valleys.
"""

import functools

import numpy as np
import torch
from torch.nn import functional

from .errors import SdlabError
from .portraits import Plan, draw_portrait, plan_portrait

NOISE_LEVEL = 0.5  # standard deviation of the noise on pixels in [-1, 1]
SIZE, SMALL = 128, 64  # pixels: the portrait that is searched, and those that get noise


def to_pixels(image) -> torch.Tensor:
    """Return a uint8 picture [h, w, 3] as float pixels in [-1, 1] of the same shape."""
    return torch.tensor(image).float() / 127.5 - 1


def with_neighbours(noisy: torch.Tensor) -> torch.Tensor:
    """Return for every pixel of ``noisy`` [..., h, w, 3] the pair (its value, the mean of its 8 neighbours).

    The result has the shape [..., h, w, 3, 2]. At the border the outermost pixels are repeated.
    """
    planes = noisy.movedim(-1, -3)
    padded = functional.pad(planes.reshape(-1, 1, *planes.shape[-2:]), (1, 1, 1, 1), mode="replicate")
    total = functional.avg_pool2d(padded, 3, stride=1) * 9
    neighbours = (total.reshape(planes.shape) - planes) / 8
    return torch.stack([planes, neighbours], dim=-1).movedim(-4, -2)


class NoiseSamples:
    """Colour values of noisy portraits: ``inputs`` [n, 2] (value, mean of its neighbours), ``targets`` [n] (noise).

    The network is noise_pred = inputs @ weights; its loss is the mean squared error over all samples. ``best`` are
    the weights of the smallest loss (from the normal equations), ``curvature`` [2, 2] the matrix of second slopes.
    """

    def __init__(self, count: int = 10_000, *, seed: int = 0, per_portrait: int = 100):
        if not isinstance(count, int) or count < 1:
            raise SdlabError(f"count={count!r} must be a whole number of at least 1: how many samples to make.")
        generator = torch.Generator().manual_seed(seed)
        parts = [_portrait_samples(number, per_portrait, generator) for number in range(-(-count // per_portrait))]
        self.inputs = torch.cat([inputs for inputs, _ in parts])[:count]
        self.targets = torch.cat([targets for _, targets in parts])[:count]
        self.curvature = 2 * self.inputs.T @ self.inputs / count
        self.best = torch.linalg.solve(self.curvature, 2 * self.inputs.T @ self.targets / count)

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the loss [...] of ``weights`` [..., 2] over all samples."""
        return self.excess(weights) + (self.inputs @ self.best - self.targets).square().mean()

    def excess(self, weights: torch.Tensor) -> torch.Tensor:
        """Return how far the loss of ``weights`` [..., 2] lies above the smallest possible loss."""
        away = weights - self.best
        return 0.5 * (away @ self.curvature * away).sum(dim=-1)


def _portrait_samples(number: int, count: int, generator: torch.Generator):
    pixels = to_pixels(draw_portrait(plan_portrait(number), size=SMALL).image)
    noise = torch.randn(pixels.shape, generator=generator)
    inputs = with_neighbours(pixels + NOISE_LEVEL * noise).reshape(-1, 2)
    chosen = torch.randint(len(inputs), (count,), generator=generator)
    return inputs[chosen], noise.reshape(-1)[chosen]


class EyeSearch:
    """A window over a portrait that is to be moved to where it shows both eyes.

    Places are fractions of the picture's width and height: (0, 0) is top left. ``eyes`` is the right place, ``wanted``
    [n, 3] the colours that the window shows there. The picture is blurred a little, so that it has slopes.
    """

    def __init__(self, plan: Plan, *, blur: float = 3.0, half_width: int = 22, half_height: int = 9):
        from PIL import Image, ImageFilter

        self.image = draw_portrait(plan, size=SIZE).image
        smooth = Image.fromarray(self.image).filter(ImageFilter.GaussianBlur(blur))
        self._picture = to_pixels(np.array(smooth)).double().permute(2, 0, 1)[None]
        across, down = torch.arange(-half_width, half_width + 1), torch.arange(-half_height, half_height + 1)
        self.shape = (len(down), len(across))
        self._offsets = torch.cartesian_prod(down, across).flip(-1).double() / SIZE  # [n, 2], (x, y)
        self.eyes = torch.tensor(plan.eye_centres).mean(dim=0).double() / SIZE
        self.wanted = self.window(*self.eyes)

    def window(self, x, y=None, *, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Return the colours [..., n, 3], in [-1, 1], in the window at ``x`` [...] and ``y`` [...].

        y: by default the eyes' height. chosen: numbers of the window's pixels to look at; by default all n.
        """
        x = torch.as_tensor(x, dtype=torch.float64)
        y = self.eyes[1].expand(x.shape) if y is None else torch.as_tensor(y, dtype=torch.float64)
        offsets = self._offsets if chosen is None else self._offsets[chosen]
        places = torch.stack([x, y], dim=-1)[..., None, :] + offsets
        grid = (2 * places + 1 / SIZE - 1).reshape(1, -1, len(offsets), 2)
        colours = functional.grid_sample(
            self._picture, grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        return colours[0].permute(1, 2, 0).reshape(*places.shape[:-1], 3)

    def loss(self, x, y=None, *, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean squared difference [...] between the window and what is wanted in it."""
        wanted = self.wanted if chosen is None else self.wanted[chosen]
        return (self.window(x, y, chosen=chosen) - wanted).square().mean(dim=(-2, -1))

    def picture_at(self, x, y=None) -> torch.Tensor:
        """Return what the window shows at one place as a picture [h, w, 3] in [0, 1]."""
        return (self.window(x, y) / 2 + 0.5).clamp(0, 1).reshape(*self.shape, 3)

    @functools.cached_property
    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places [65] along each side and the loss [65, 65] there (row: y, column: x), to draw contours from."""
        places = torch.linspace(0, 1, 65, dtype=torch.float64)
        rows = [self.loss(places, y.expand(65)) for y in places]
        return places, torch.stack(rows)
