"""Two small problems from our own portraits whose loss landscapes can be seen whole.

``NoiseSamples``: what is the noise on a pixel? A network of two weights, and one valley.
``EyeSearch``: where in a portrait are the eyes? The place of a window, and many valleys.
"""

import functools

import numpy as np
import torch
from torch.nn import functional

from sdlab import SdlabError
from sdlab.images import to_batch

from ..portraits import Plan, draw_portrait, plan_portrait

NOISE_LEVEL = 0.5  # standard deviation of the noise on pixels in [-1, 1]
SIZE, SMALL = 128, 64  # pixels: the portrait that is searched, and those that get noise
BETAS, EPSILON = (0.9, 0.99), 1e-8  # Adam's: how slowly its two averages forget
DECIMALS = 7  # of a place on the way down


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
    pixels = to_batch([draw_portrait(plan_portrait(number), size=SMALL).image])[0].permute(1, 2, 0)
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
        self._picture = to_batch([np.array(smooth)]).double()
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


def descend(loss, start, rates) -> torch.Tensor:
    """Walk down ``loss`` from ``start`` with one step for each learning rate in ``rates``; return all places.

    Each place is rounded to ``DECIMALS``, so that a walk which jumps about takes the same steps on every processor.
    loss: a function of places; its value may have one entry a place, then every place walks by itself.
    start: a number or tensor of any shape; the result has one dimension more in front: [len(rates) + 1, ...].
    """
    place = torch.as_tensor(start, dtype=torch.float64)
    path = [place]
    for rate in rates:
        place = place.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(place).sum(), place)
        place = (place - rate * slope).detach().round(decimals=DECIMALS)
        path.append(place)
    return torch.stack(path)


def walk_with_batches(search, learning_rate: float, batch_size: int, start: tuple[float, float]) -> torch.Tensor:
    """Return the places [51, 2] of a walk over the portrait whose steps compare ``batch_size`` random pixels each.

    learning_rate: the first step's; it falls to 0 along a cosine over the 50 steps.
    """
    generator = torch.Generator().manual_seed(0)
    rates = learning_rate * (1 + torch.cos(torch.pi * torch.arange(50) / 50)) / 2

    def loss(place):
        chosen = torch.randint(len(search.wanted), (batch_size,), generator=generator)
        return search.loss(place[0], place[1], chosen=chosen)

    return descend(loss, start, rates.tolist())


def train_many(samples, rates, *, batch_size: int, runs: int = 20, optimizer: str = "sgd", seed: int = 0):
    """Train the two weights of ``samples`` (a NoiseSamples) in many runs at once; return weights [steps + 1, runs, 2].

    rates: the learning rate of every step, a number or a tensor [runs, 1]. Every run starts at (0, 0) and draws
        its own mini-batches, with replacement.
    optimizer: ``"sgd"``, or ``"adam"`` (Kingma and Ba 2015, algorithm 1) with ``BETAS`` and ``EPSILON``.
    """
    if optimizer not in ("sgd", "adam"):
        raise SdlabError(f"optimizer={optimizer!r} is not known here: use 'sgd' or 'adam'.")
    if not isinstance(batch_size, int) or not 1 <= batch_size <= len(samples.targets):
        raise SdlabError(f"batch_size={batch_size!r} must be a whole number from 1 to {len(samples.targets)}.")
    generator = torch.Generator().manual_seed(seed)
    weights, average, squares = (torch.zeros(runs, 2) for _ in range(3))
    path = [weights]
    for step, rate in enumerate(rates, start=1):
        chosen = torch.randint(len(samples.targets), (runs, batch_size), generator=generator)
        gradient = batch_gradients(samples, weights, chosen)
        if optimizer == "adam":
            average = BETAS[0] * average + (1 - BETAS[0]) * gradient
            squares = BETAS[1] * squares + (1 - BETAS[1]) * gradient.square()
            scale = (squares / (1 - BETAS[1] ** step)).sqrt() + EPSILON
            gradient = average / (1 - BETAS[0] ** step) / scale
        weights = weights - rate * gradient
        path.append(weights)
    return torch.stack(path)


def batch_gradients(samples, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return the gradient [runs, 2] at ``weights`` [runs, 2] of the loss over the samples ``chosen`` [runs, batch]."""
    inputs = samples.inputs[chosen]
    error = (inputs @ weights[:, :, None])[..., 0] - samples.targets[chosen]
    return 2 * (error[:, :, None] * inputs).mean(dim=1)


def gradient_noise(samples, batch_size: int, *, draws: int = 1000) -> tuple[float, torch.Tensor]:
    """Return how far the gradient of a mini-batch is from that of all samples, at the weights (0, 0).

    First the root mean square distance over ``draws`` random batches, then the mean difference [2].
    """
    generator = torch.Generator().manual_seed(batch_size)
    chosen = torch.randint(len(samples.targets), (draws, batch_size), generator=generator)
    exact = batch_gradients(samples, torch.zeros(1, 2), torch.arange(len(samples.targets))[None])
    difference = batch_gradients(samples, torch.zeros(draws, 2), chosen) - exact
    return difference.square().sum(dim=1).mean().sqrt().item(), difference.mean(dim=0)


def final_excess(samples, rates: list[float], steps: int, *, runs: int = 20, **options) -> list[float]:
    """Return, for each of the constant ``rates``, the excess loss at the end of a training of ``steps`` steps.

    Averaged over ``runs`` runs and the last tenth of the steps; ``options`` are those of train_many.
    """
    column = torch.tensor(rates).repeat_interleave(runs)[:, None]
    path = train_many(samples, [column] * steps, runs=runs * len(rates), **options)
    excess = samples.excess(path[-max(1, steps // 10) :]).mean(dim=0)
    return excess.reshape(len(rates), runs).mean(dim=1).tolist()
