"""Gradient descent: paths down a loss landscape, and many mini-batch trainings at once."""

import torch

from .errors import SdlabError

BETAS, EPSILON = (0.9, 0.99), 1e-8  # Adam's: how slowly its two averages forget


def descend(loss, start, rates) -> torch.Tensor:
    """Walk down ``loss`` from ``start`` with one step for each learning rate in ``rates``; return all places.

    loss: a function of places; its value may have one entry a place, then every place walks by itself.
    start: a number or tensor of any shape; the result has one dimension more in front: [len(rates) + 1, ...].
    """
    place = torch.as_tensor(start, dtype=torch.float64)
    path = [place]
    for rate in rates:
        place = place.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(place).sum(), place)
        place = (place - rate * slope).detach()
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
