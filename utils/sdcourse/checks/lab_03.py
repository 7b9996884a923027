"""Checks of lab 03: noise by formula, jumps, what an average still shows, a repaired schedule, training examples."""

import functools

import torch

from .attempt import Pocket
from .exercise import Draws, Lab
from .outcome import Wrong

check = Lab("03", "Noise a picture by formula")


def sd_alphas_cumprod(dtype=torch.float32) -> torch.Tensor:
    """Return alpha-bar [1000] of Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(dim=0).to(dtype)


def noise_of_diffusers(x_0, noise, timesteps, alphas_cumprod):
    """Return what a scheduler of diffusers with this schedule makes of x_0."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=len(alphas_cumprod))
    scheduler.alphas_cumprod = alphas_cumprod
    return scheduler.add_noise(x_0, noise, timesteps)


def _noised(x_0, noise, timesteps, alphas_cumprod, *, roots=True, swap=False, place=0):
    kept = alphas_cumprod[timesteps].to(x_0.dtype)
    kept = kept.view([-1 if axis == place % x_0.ndim else 1 for axis in range(x_0.ndim)])
    picture, added = (kept**0.5, (1 - kept) ** 0.5) if roots else (kept, 1 - kept)
    return added * x_0 + picture * noise if swap else picture * x_0 + added * noise


@check.exercise(
    noise_of_diffusers,
    mistakes={
        "without the roots the variance does not stay at 1": lambda *a: _noised(*a, roots=False),
        "the two roots are swapped: alpha-bar belongs to the picture": lambda *a: _noised(*a, swap=True),
        "the noise's factor lacks its root: it is the root of 1 - alpha-bar": lambda x, n, t, a: (
            _noised(x, torch.zeros_like(n), t, a) + _noised(torch.zeros_like(x), n, t, a, roots=False)
        ),
        "the picture's factor lacks its root: it is the root of alpha-bar": lambda x, n, t, a: (
            _noised(x, torch.zeros_like(n), t, a, roots=False) + _noised(torch.zeros_like(x), n, t, a)
        ),
        "each sample has a timestep of its own: use all of them, not the first for everybody": lambda x, n, t, a: (
            _noised(x, n, t[:1].expand(len(t)), a)
        ),
        "the factors run along the last dimension: they belong to the first, one for each sample": lambda *a: _noised(
            *a, place=-1
        ),
        "the library counts from 0: the timestep is the index, without - 1": lambda x, n, t, a: _noised(x, n, t - 1, a),
        "alpha-bar is the product of all 1 - beta up to the timestep, not the last factor alone": lambda x, n, t, a: (
            _noised(x, n, t, torch.cat([a[:1], a[1:] / a[:-1]]))
        ),
        "the picture is not shrunk: it keeps only the root of alpha-bar": lambda x, n, t, a: (
            x + _noised(torch.zeros_like(x), n, t, a)
        ),
        "the result must have the dtype of x_0: bring alpha-bar to it first": lambda x, n, t, a: _noised(
            x.float(), n.float(), t, a
        ),
    },
)
def noise_batch(draws: Draws):
    """The jump for a batch in which every sample has a timestep of its own."""
    shapes = [(3, 4, 5, 6), (4, 2, 4, 4), (5, 2), (6,), (1, 3, 8, 8), (2, 4, 3, 4, 5)]
    for number, shape in enumerate(shapes):
        timesteps = torch.tensor([draws.integer(1, 998) for _ in range(shape[0])])
        if number == 0:
            timesteps[1:] = torch.tensor([999, 1])
        yield (draws.normal(*shape), draws.normal(*shape), timesteps, sd_alphas_cumprod())
    half, timesteps = torch.float16, torch.tensor([draws.integer(150, 500), draws.integer(600, 999)])
    yield (draws.normal(2, 3, 4, 4, dtype=half), draws.normal(2, 3, 4, 4, dtype=half), timesteps, sd_alphas_cumprod())
    short = (1 - torch.linspace(0.01, 0.3, 20)).cumprod(dim=0)
    yield (draws.normal(3, 7), draws.normal(3, 7), torch.tensor([19, 2, draws.integer(3, 18)]), short)


def jump_of_diffusers(x_s, noise, s, t, alphas_cumprod):
    """Return what a scheduler that knows only the betas after s and up to t makes of x_s."""
    from diffusers import DDPMScheduler

    betas = 1 - alphas_cumprod[s + 1 : t + 1] / alphas_cumprod[s:t]
    if not len(betas):
        return x_s.clone()
    scheduler = DDPMScheduler(trained_betas=betas.tolist())
    scheduler.alphas_cumprod = (1 - betas).cumprod(dim=0)
    return scheduler.add_noise(x_s, noise, torch.tensor([t - s - 1] * (len(x_s) if x_s.ndim else 1)))


def _jumped(x_s, noise, kept, added=None, *, roots=True):
    added = 1 - kept if added is None else added
    return kept**0.5 * x_s + added**0.5 * noise if roots else kept * x_s + added * noise


@check.exercise(
    jump_of_diffusers,
    mistakes={
        "that is the jump from the clean picture; x_s has lost a part of it already": lambda x, n, s, t, a: _jumped(
            x, n, a[t]
        ),
        "divide the two alpha-bars, do not subtract them: they are products": lambda x, n, s, t, a: _jumped(
            x, n, 1 - (a[s] - a[t])
        ),
        "the factors lack their roots": lambda x, n, s, t, a: _jumped(x, n, a[t] / a[s], roots=False),
        "the quotient is upside down: less is kept, not more": lambda x, n, s, t, a: _jumped(x, n, a[s] / a[t]),
        "the noise in x_s is still there: add only as much as the steps between do": lambda x, n, s, t, a: _jumped(
            x, n, a[t] / a[s], 1 - a[t]
        ),
        "the old noise shrinks as well, so the difference of both levels is too little": lambda x, n, s, t, a: _jumped(
            x, n, a[t] / a[s], a[s] - a[t]
        ),
        "one step too many: x_s has taken step s already": lambda x, n, s, t, a: _jumped(
            x, n, a[t] / (a[s - 1] if s else 1.0)
        ),
        "one step too few: step t belongs to the jump": lambda x, n, s, t, a: _jumped(x, n, a[t - 1] / a[s]),
        "alpha-bar of t - s belongs to the first steps of all; those after s have larger betas": lambda x, n, s, t, a: (
            _jumped(x, n, a[t - s])
        ),
        "noise levels cannot be subtracted, only variances can, and the old noise has shrunk": lambda x, n, s, t, a: (
            _jumped(x, n, a[t] / a[s], ((1 - a[t]).sqrt() - (1 - a[s]).sqrt()) ** 2)
        ),
        "alphas_cumprod is an argument: this is another schedule, not Stable Diffusion's": lambda x, n, s, t, a: (
            _jumped(x, n, (sd_alphas_cumprod(a.dtype)[t] / sd_alphas_cumprod(a.dtype)[s]))
        ),
    },
)
def jump_between(draws: Draws):
    """One jump from an already noisy sample to a noisier one."""
    schedule = sd_alphas_cumprod(torch.float64)
    for shape, s, t in [((2, 3, 4), 0, 999), ((5,), 100, 400), ((1, 3, 4, 4), 700, 701), ((3, 2), 999, 999)]:
        yield (draws.normal(*shape, dtype=torch.float64), draws.normal(*shape, dtype=torch.float64), s, t, schedule)
    for shape in [(2, 5), (2, 2, 3, 3)]:
        s = draws.integer(1, 500)
        yield (draws.normal(*shape), draws.normal(*shape), s, draws.integer(s + 50, 999), schedule.float())
    short = (1 - torch.linspace(0.01, 0.3, 20)).cumprod(dim=0)
    yield (draws.normal(4, 3), draws.normal(4, 3), draws.integer(1, 9), draws.integer(12, 19), short)


def numbers_from_diffusers(value, t, alphas_cumprod):
    """Read picture and noise off a scheduler's add_noise and return the square of noise over picture."""
    one, none, t = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), torch.tensor([t])
    trace = noise_of_diffusers(value * one, none, t, alphas_cumprod)
    spread = noise_of_diffusers(none, one, t, alphas_cumprod)
    return (spread / trace).square().item()


@check.exercise(
    numbers_from_diffusers,
    mistakes={
        "the noise in a mean shrinks with the root of their number, so the quotient must be squared": lambda v, t, a: (
            (1 - a[t]) ** 0.5 / (a[t] ** 0.5 * abs(v))
        ).item(),
        "that is the signal-to-noise ratio; it is the other way round": lambda v, t, a: (
            a[t] * v**2 / (1 - a[t])
        ).item(),
        "the weaker the value, the more numbers are needed: value is missing": lambda v, t, a: (
            (1 - a[t]) / a[t]
        ).item(),
        "value counts squared, like everything that is compared with a variance": lambda v, t, a: (
            (1 - a[t]) / (a[t] * abs(v))
        ).item(),
        "value counts squared, so that n is never negative": lambda v, t, a: ((1 - a[t]) / (a[t] * v)).item(),
        "the picture shrinks too: what is left of value is the root of alpha-bar times value": lambda v, t, a: (
            (1 - a[t]) / v**2
        ).item(),
        "the noise has the variance 1 - alpha-bar, not 1": lambda v, t, a: (1 / (a[t] * v**2)).item(),
        "the roots are taken already in the squares: 1 - alpha-bar over alpha-bar, not their squares": lambda v, t, a: (
            ((1 - a[t]) / (a[t] * v)) ** 2
        ).item(),
    },
)
def numbers_to_average(draws: Draws):
    """How many numbers an average needs until the trace is as strong as the noise."""
    schedule = sd_alphas_cumprod(torch.float64)
    yield (1.0, 999, schedule)
    yield (draws.uniform(0.1, 0.6), draws.integer(300, 800), schedule)
    yield (draws.uniform(-0.9, -0.3), draws.integer(500, 950), schedule)
    yield (draws.uniform(0.2, 0.9), 0, schedule)
    yield (draws.uniform(1.5, 3.0), draws.integer(0, 15), (1 - torch.linspace(0.1, 0.5, 16).double()).cumprod(dim=0))


def repaired_betas(betas):
    """Return the betas of diffusers' own repair."""
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    return rescale_zero_terminal_snr(betas)


def _betas(shares):
    """Return the betas of the shares sqrt(alpha-bar)."""
    alpha_bars = shares**2
    return 1 - torch.cat([alpha_bars[:1], alpha_bars[1:] / alpha_bars[:-1]])


def _stretched(values):
    return (values - values[-1]) * values[0] / (values[0] - values[-1])


def _shares(betas):
    return (1 - betas).cumprod(dim=0).sqrt()


@check.exercise(
    repaired_betas,
    mistakes={
        "return the betas, not the picture's shares": lambda b: _stretched(_shares(b)),
        "return the betas: these are the 1 - beta": lambda b: 1 - _betas(_stretched(_shares(b))),
        "return the betas: these are the alpha-bars": lambda b: _stretched(_shares(b)) ** 2,
        "shift and stretch the root of alpha-bar, the picture's share, not alpha-bar": lambda b: _betas(
            _stretched(_shares(b) ** 2).sqrt()
        ),
        "the beginning must stay: after the shift, stretch": lambda b: _betas(_shares(b) - _shares(b)[-1]),
        "nothing was repaired: these are the betas you were given": lambda b: b.clone(),
        "there must be as many betas as before: the first one is 1 minus the first alpha-bar": lambda b: _betas(
            _stretched(_shares(b))
        )[1:],
        "the betas belong to alpha-bar: square the shares first": lambda b: (
            1 - torch.cat([_stretched(_shares(b))[:1], _stretched(_shares(b))[1:] / _stretched(_shares(b))[:-1]])
        ),
        "the first beta is not 0: the curve is not to begin at 1, but to keep its first value": lambda b: _betas(
            _stretched(_shares(b)) / _shares(b)[0]
        ),
        "setting the last beta to 1 alone leaves a jump at the end: shift and stretch the whole curve": lambda b: (
            torch.cat([b[:-1], torch.ones_like(b[:1])])
        ),
    },
)
def zero_terminal_betas(draws: Draws):
    """Betas whose schedule ends in pure noise, against diffusers' rescale_zero_terminal_snr."""
    sd = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    yield (sd,)
    yield (sd.float()[::50] * 40,)
    for count in (7, 2):
        low = draws.uniform(0.05, 0.2)
        yield (torch.linspace(low, draws.uniform(low + 0.1, 0.7), count),)
    yield (torch.linspace(0.4, 0.1, 9, dtype=torch.float64),)


@functools.cache
def portrait_latents(seed: int, count: int = 16) -> torch.Tensor:
    """Return the latents [count, 4, 16, 16] of portraits that are no training data."""
    from sdlab import encode
    from sdlab.images import to_batch

    from ..portraits import draw_portrait, plan_portrait

    pipe = Pocket().resolve()
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    plans = [plan_portrait(60_001_000 + 100 * seed + number) for number in range(count)]
    return encode(pipe, to_batch([draw_portrait(plan, size=size).image for plan in plans]))


@torch.no_grad()
def left_over(latents, noisy, noise_pred, timesteps) -> float:
    """Return how far the picture that is left without the predicted noise lies from the true one (mean square)."""
    kept = sd_alphas_cumprod()[timesteps].view(-1, 1, 1, 1)
    return (noisy - (1 - kept) ** 0.5 * noise_pred - kept**0.5 * latents).square().mean().item()


@check.effect
def training_batch(attempt, draws: Draws) -> str:
    """Noisy latents, the noise in them and their timesteps, such that the pocket U-Net finds the noise."""
    from sdlab import noise_predictor

    schedule = sd_alphas_cumprod()
    _check_chance(attempt, schedule, draws)
    latents = portrait_latents(draws.seed)
    noisy, noise, timesteps = attempt(latents, schedule, draws.seed)
    _check_kinds(noisy, noise, timesteps, latents)
    if noise.mean(dim=1).std() > 0.7 or noise.mean(dim=(2, 3)).std() > 0.2:
        raise Wrong("every number needs noise of its own, in each channel and at each place, not the same for several")
    predict = noise_predictor(Pocket().resolve())
    noise_pred, right = predict(noisy, timesteps), noise_of_diffusers(latents, noise, timesteps, schedule)
    right_pred = predict(right, timesteps)
    loss, usual = ((n - noise).square().mean().item() for n in (noise_pred, right_pred))
    if loss > 1.25 * usual + 0.01:
        raise Wrong(
            f"the pocket U-Net looks for the noise that you returned and misses it by {loss / usual:.1f} times as much "
            "as in examples made rightly: noisy must hold this very noise, as strong as at its timestep"
        )
    far, near = left_over(latents, noisy, noise_pred, timesteps), left_over(latents, right, right_pred, timesteps)
    if far > 1.25 * near + 0.01:
        raise Wrong(
            "when the noise that the U-Net finds is taken away, the picture is not left as strong as it should be at "
            "its timestep: look at both factors, and at the timestep that you return"
        )
    _check_given_schedule(attempt, draws)
    return "the pocket U-Net finds your noise as well as in examples made rightly"


def _check_given_schedule(attempt, draws: Draws) -> None:
    """Raise Wrong unless latents of another shape are mixed by the alpha-bars that are handed in."""
    latents, schedule = draws.normal(6, 3, 5, 7), (1 - torch.linspace(0.0001, 0.02, 1000)).cumprod(dim=0)
    noisy, noise, timesteps = attempt(latents, schedule, draws.seed)
    _check_kinds(noisy, noise, timesteps, latents)
    if not torch.allclose(noisy, noise_of_diffusers(latents, noise, timesteps, schedule), atol=1e-4):
        raise Wrong("alphas_cumprod is an argument: mix by the alpha-bars you are given, whatever the schedule")


def _check_kinds(noisy, noise, timesteps, latents) -> None:
    """Raise Wrong unless the three have the right shapes and kinds."""
    for name, value in (("noisy", noisy), ("noise", noise), ("timesteps", timesteps)):
        if not isinstance(value, torch.Tensor):
            raise Wrong(f"{name} must be a tensor, not {type(value).__name__}")
    if timesteps.shape != latents.shape[:1] or timesteps.dtype != torch.int64:
        raise Wrong(
            f"timesteps must hold one whole number for each of the {len(latents)} latents, and come third; yours have "
            f"the shape {list(timesteps.shape)} and the dtype {timesteps.dtype}"
        )
    for name, value in (("noisy", noisy), ("noise", noise)):
        if value.shape != latents.shape:
            raise Wrong(f"{name} must have the shape of the latents, {list(latents.shape)}, not {list(value.shape)}")


def _check_chance(attempt, schedule, draws: Draws) -> None:
    """Raise Wrong unless timesteps and noise are drawn as they should be."""
    zeros = torch.zeros(20_000, 1, 1, 1)
    batches = []
    for seed in (draws.seed, draws.seed + 1):
        batch = attempt(zeros, schedule, seed)
        if not isinstance(batch, list | tuple) or len(batch) != 3:
            raise Wrong("return three things: noisy, noise and timesteps")
        _check_kinds(*batch, zeros)
        batches.append(batch)
    (_, noise, timesteps), (_, other, _) = batches
    if timesteps.min() < 0 or timesteps.max() > 999:
        raise Wrong(f"the timesteps run from 0 to 999, yours from {timesteps.min()} to {timesteps.max()}")
    if timesteps.min() == timesteps.max():
        raise Wrong("every sample needs a timestep of its own, and all of yours have the same")
    counts = torch.histc(timesteps.float(), bins=10, min=0, max=1000)
    if timesteps.min() > 0 or timesteps.max() < 999 or counts.min() < 1700 or counts.max() > 2300:
        raise Wrong("every timestep from 0 to 999, both included, must be drawn equally often")
    if (timesteps[1:] >= timesteps[:-1]).float().mean() > 0.6:
        raise Wrong("the timesteps must come in any order, by chance")
    mean, spread, inside = noise.mean().item(), noise.std().item(), (noise.abs() < 1).float().mean().item()
    if abs(mean) > 0.05 or abs(spread - 1) > 0.05:
        raise Wrong(
            f"noise must be Gaussian, with mean 0 and standard deviation 1; yours has mean {mean:.2f} and standard "
            f"deviation {spread:.2f}"
        )
    if abs(inside - 0.683) > 0.03 or noise.abs().max() < 2.5:
        raise Wrong(
            f"mean and standard deviation of the noise are right, but it is no bell curve: {inside:.0%} of it lie "
            "between -1 and 1, and of Gaussian noise 68%"
        )
    if torch.equal(noise, other):
        raise Wrong("another seed must give other noise: make a torch.Generator of your seed, and hand it on")
    if not torch.equal(noise, attempt(zeros, schedule, draws.seed)[1]):
        raise Wrong("the same seed must give the same batch: draw with a torch.Generator of that seed")
