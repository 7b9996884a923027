"""Wrong answers to lab 03."""

import torch


def shaped(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def batch_without_roots(x_0, noise, timesteps, alphas_cumprod):
    kept = shaped(alphas_cumprod[timesteps], x_0)
    return kept * x_0 + (1 - kept) * noise


def batch_with_swapped_roots(x_0, noise, timesteps, alphas_cumprod):
    kept = shaped(alphas_cumprod[timesteps], x_0)
    return (1 - kept).sqrt() * x_0 + kept.sqrt() * noise


def batch_with_one_timestep(x_0, noise, timesteps, alphas_cumprod):
    kept = alphas_cumprod[timesteps[0]].to(x_0.dtype)
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise


def batch_broadcast_from_the_right(x_0, noise, timesteps, alphas_cumprod):
    kept = alphas_cumprod[timesteps].to(x_0.dtype)
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise


def batch_for_pictures_only(x_0, noise, timesteps, alphas_cumprod):
    kept = alphas_cumprod[timesteps][:, None, None, None].to(x_0.dtype)
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise


def batch_counted_from_one(x_0, noise, timesteps, alphas_cumprod):
    kept = shaped(alphas_cumprod[timesteps - 1], x_0)
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise


def batch_of_single_steps(x_0, noise, timesteps, alphas_cumprod):
    before = torch.cat([torch.ones(1), alphas_cumprod[:-1]])
    kept = shaped((alphas_cumprod / before)[timesteps], x_0)
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise


def batch_that_only_adds(x_0, noise, timesteps, alphas_cumprod):
    return x_0 + (1 - shaped(alphas_cumprod[timesteps], x_0)).sqrt() * noise


def batch_in_single_precision(x_0, noise, timesteps, alphas_cumprod):
    kept = alphas_cumprod[timesteps].reshape(-1, *[1] * (x_0.ndim - 1))
    return kept.sqrt() * x_0 + (1 - kept).sqrt() * noise


def batch_in_place(x_0, noise, timesteps, alphas_cumprod):
    kept = shaped(alphas_cumprod[timesteps], x_0)
    x_0 *= kept.sqrt()
    return x_0 + (1 - kept).sqrt() * noise


def batch_with_one_root(x_0, noise, timesteps, alphas_cumprod):
    kept = shaped(alphas_cumprod[timesteps], x_0)
    return kept.sqrt() * x_0 + (1 - kept) * noise


def batch_with_the_other_root(x_0, noise, timesteps, alphas_cumprod):
    kept = shaped(alphas_cumprod[timesteps], x_0)
    return kept * x_0 + (1 - kept).sqrt() * noise


def stable_diffusions(alphas_cumprod):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(dim=0).to(alphas_cumprod.dtype)


def batch_of_stable_diffusion_only(latents, alphas_cumprod, seed):
    return batch()(latents, stable_diffusions(alphas_cumprod), seed)


def batch_of_an_unseeded_generator(latents, alphas_cumprod, seed):
    generator = torch.Generator()
    generator.seed()
    return batch()(latents, alphas_cumprod, int(torch.randint(10**9, (), generator=generator)))


def jumping(kept, added=None):
    def jump_between(x_s, noise, s, t, alphas_cumprod):
        picture = kept(alphas_cumprod, s, t)
        rest = 1 - picture if added is None else added(alphas_cumprod, s, t)
        return picture**0.5 * x_s + rest**0.5 * noise

    return jump_between


def level_difference(alphas_cumprod, s, t):
    return ((1 - alphas_cumprod[t]).sqrt() - (1 - alphas_cumprod[s]).sqrt()) ** 2


def jump_without_roots(x_s, noise, s, t, alphas_cumprod):
    kept = alphas_cumprod[t] / alphas_cumprod[s]
    return kept * x_s + (1 - kept) * noise


def averaging(formula):
    return lambda value, t, alphas_cumprod: float(formula(value, alphas_cumprod[t].item()))


def repairing(change, back):
    def zero_terminal_betas(betas):
        return back(change((1 - betas).cumprod(dim=0).sqrt()))

    return zero_terminal_betas


def stretch(shares):
    return (shares - shares[-1]) * shares[0] / (shares[0] - shares[-1])


def to_betas(shares):
    kept = shares.square()
    return torch.cat([1 - kept[:1], 1 - kept[1:] / kept[:-1]])


def repair_alpha_bars(betas):
    kept = stretch((1 - betas).cumprod(dim=0))
    return torch.cat([1 - kept[:1], 1 - kept[1:] / kept[:-1]])


def betas_without_squares(shares):
    return torch.cat([1 - shares[:1], 1 - shares[1:] / shares[:-1]])


def last_beta_one(betas):
    betas = betas.clone()
    betas[-1] = 1
    return betas


def batch(timesteps=None, noise=None, mix=None, order=(0, 1, 2), seeded=True, told=lambda t: t, given=lambda n: n):
    def training_batch(latents, alphas_cumprod, seed):
        generator = torch.Generator().manual_seed(seed if seeded else 0)
        t = (timesteps or (lambda b, g: torch.randint(1000, (b,), generator=g)))(len(latents), generator)
        eps = (noise or (lambda x, g: torch.randn(x.shape, generator=g)))(latents, generator)
        kept = alphas_cumprod[t.long() % 1000].reshape(-1, 1, 1, 1)
        mixed = (mix or (lambda x, n, a: a.sqrt() * x + (1 - a).sqrt() * n))(latents, eps, kept)
        made = mixed, given(eps), told(t)
        return tuple(made[place] for place in order)

    return training_batch


WRONG = {
    "noise_batch": [
        ("variance does not stay at 1", batch_without_roots),
        ("two roots are swapped", batch_with_swapped_roots),
        ("timestep of its own", batch_with_one_timestep),
        ("RuntimeError: The size of tensor", batch_broadcast_from_the_right),
        ("at non-singleton dimension 1", batch_for_pictures_only),
        ("without - 1", batch_counted_from_one),
        ("not the last factor alone", batch_of_single_steps),
        ("not shrunk", batch_that_only_adds),
        ("the noise's factor lacks its root", batch_with_one_root),
        ("the picture's factor lacks its root", batch_with_the_other_root),
        ("dtype of x_0", batch_in_single_precision),
        ("in place", batch_in_place),
        ("values differ", lambda x_0, noise, timesteps, alphas_cumprod: x_0),
    ],
    "jump_between": [
        ("from the clean picture", jumping(lambda a, s, t: a[t])),
        ("do not subtract them", jumping(lambda a, s, t: 1 - a[s] + a[t])),
        ("lack their roots", jump_without_roots),
        ("upside down", jumping(lambda a, s, t: a[s] / a[t])),
        ("the steps between do", jumping(lambda a, s, t: a[t] / a[s], lambda a, s, t: 1 - a[t])),
        ("old noise shrinks as well", jumping(lambda a, s, t: a[t] / a[s], lambda a, s, t: (1 - a[t]) - (1 - a[s]))),
        ("one step too many", jumping(lambda a, s, t: a[t] / (a[s - 1] if s > 0 else 1))),
        ("one step too few", jumping(lambda a, s, t: a[t - 1] / a[s])),
        ("belongs to the first steps of all", jumping(lambda a, s, t: a[t - s])),
        ("values differ", lambda x_s, noise, s, t, alphas_cumprod: x_s),
        ("only variances can", jumping(lambda a, s, t: a[t] / a[s], level_difference)),
        ("this is another schedule", jumping(lambda a, s, t: stable_diffusions(a)[t] / stable_diffusions(a)[s])),
    ],
    "numbers_to_average": [
        ("must be squared", averaging(lambda v, a: ((1 - a) / a) ** 0.5 / abs(v))),
        ("other way round", averaging(lambda v, a: a / (1 - a) * v**2)),
        ("value is missing", averaging(lambda v, a: (1 - a) / a)),
        ("value counts squared", averaging(lambda v, a: (1 - a) / a / abs(v))),
        ("never negative", averaging(lambda v, a: (1 - a) / a / v)),
        ("the picture shrinks too", averaging(lambda v, a: (1 - a) / v**2)),
        ("not 1", averaging(lambda v, a: 1 / a / v**2)),
        ("roots are taken already", averaging(lambda v, a: (1 - a) ** 2 / (a * v) ** 2)),
        ("expected a number, got a tensor", lambda value, t, a: (1 - a[t]) / (a[t] * value**2)),
        ("expected 213.59, got 213", averaging(lambda v, a: max(1, int((1 - a) / (a * v**2))))),
    ],
    "zero_terminal_betas": [
        ("not the picture's shares", repairing(stretch, lambda shares: shares)),
        ("these are the 1 - beta", repairing(stretch, lambda shares: 1 - to_betas(shares))),
        ("these are the alpha-bars", repairing(stretch, torch.square)),
        ("the picture's share, not alpha-bar", repair_alpha_bars),
        ("after the shift, stretch", repairing(lambda shares: shares - shares[-1], to_betas)),
        ("nothing was repaired", lambda betas: betas),
        ("as many betas as before", repairing(stretch, lambda shares: to_betas(shares)[1:])),
        ("square the shares first", repairing(stretch, betas_without_squares)),
        ("not to begin at 1", repairing(lambda shares: (shares - shares[-1]) / (shares[0] - shares[-1]), to_betas)),
        ("the last beta to 1 alone", last_beta_one),
    ],
    "training_batch": [
        ("return three things", lambda latents, alphas_cumprod, seed: latents),
        ("come third", batch(order=(0, 2, 1))),
        ("one whole number for each", batch(told=lambda t: t / 1000)),
        ("one whole number for each", batch(told=lambda t: t[:1])),
        ("both included", batch(timesteps=lambda b, g: torch.randint(1, 1000, (b,), generator=g))),
        ("both included", batch(timesteps=lambda b, g: torch.randint(999, (b,), generator=g))),
        ("a timestep of its own", batch(timesteps=lambda b, g: torch.randint(1000, (1,), generator=g).expand(b))),
        ("equally often", batch(timesteps=lambda b, g: (1000 * torch.rand(b, generator=g) ** 2).long())),
        ("run from 0 to 999", batch(timesteps=lambda b, g: torch.randint(1, 1001, (b,), generator=g))),
        ("in any order", batch(timesteps=lambda b, g: torch.arange(b) * 1000 // b)),
        ("mean 0.50", batch(noise=lambda x, g: torch.rand(x.shape, generator=g))),
        ("standard deviation 0.00", batch(noise=lambda x, g: torch.randn(x[:1].shape, generator=g).expand(x.shape))),
        ("no bell curve", batch(noise=lambda x, g: (2 * torch.rand(x.shape, generator=g) - 1) * 3**0.5)),
        ("noise of its own", batch(noise=lambda x, g: torch.randn(x[:, :1].shape, generator=g).expand(x.shape))),
        ("whatever the schedule", batch_of_stable_diffusion_only),
        ("the same seed must give the same batch", batch_of_an_unseeded_generator),
        ("another seed", batch(seeded=False)),
        ("misses it by", batch(given=lambda noise: noise.roll(1, 0))),
        ("misses it by", batch(mix=lambda x, n, a: a * x + (1 - a) * n)),
        ("misses it by", batch(mix=lambda x, n, a: (1 - a).sqrt() * x + a.sqrt() * n)),
        ("misses it by", batch(mix=lambda x, n, a: x + (1 - a).sqrt() * n)),
        ("as strong as", batch(mix=lambda x, n, a: a.sqrt() * x + 1.5 * (1 - a).sqrt() * n)),
        ("at its timestep", batch(told=lambda t: 999 - t)),
    ],
}
