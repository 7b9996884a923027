"""Checks of lab 04: the picture behind a prediction, steps of samplers, an exact guess, and the way up to the noise."""

import functools
from itertools import pairwise

import torch

from .attempt import Pocket
from .compare import difference
from .exercise import Draws, Lab
from .outcome import Wrong
from .without import LOOP

check = Lab("04", "Turn noise back into a picture")

STEPS, SHARE = 10, 0.8


def original_of_diffusers(model_output, sample, alpha_prod_t, prediction_type):
    """Return the clean sample that a scheduler of diffusers reads from the output of a network."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    scheduler.alphas_cumprod = alpha_prod_t.expand(1000)
    scheduler.set_timesteps(10)
    return scheduler.step(model_output, 500, sample).pred_original_sample


def _original(model_output, noisy, kept, kind, **wrong):
    keep, add = kept**0.5, (1 - kept) ** 0.5
    rules = {
        "epsilon": lambda output, x, keep, add: (x - add * output) / keep,
        "v_prediction": lambda output, x, keep, add: keep * x - add * output,
        "sample": lambda output, x, keep, add: output,
    }
    return (rules | wrong)[kind](model_output, noisy, keep, add)


@check.exercise(
    original_of_diffusers,
    mistakes={
        "the kind of the prediction is ignored: only 'epsilon' is noise": lambda *a: _original(*a[:3], "epsilon"),
        "for 'epsilon', divide by the root of alpha-bar at the end": lambda *a: _original(
            *a, epsilon=lambda o, x, keep, add: x - add * o
        ),
        "for 'epsilon', the factors are the roots of alpha-bar and of 1 - alpha-bar": lambda *a: _original(
            *a, epsilon=lambda o, x, keep, add: (x - add**2 * o) / keep**2
        ),
        "for 'epsilon', not all of the noise is in the sample, only its share, and the picture shrank": lambda *a: (
            _original(*a, epsilon=lambda o, x, keep, add: x - o)
        ),
        "for 'epsilon', the noise is taken away, not added": lambda *a: _original(
            *a, epsilon=lambda o, x, keep, add: (x + add * o) / keep
        ),
        "for 'epsilon', the two roots are swapped": lambda *a: _original(
            *a, epsilon=lambda o, x, keep, add: (x - keep * o) / add
        ),
        "for 'v_prediction', the sign before v is wrong": lambda *a: _original(
            *a, v_prediction=lambda o, x, keep, add: keep * x + add * o
        ),
        "for 'v_prediction', the factors are the roots of alpha-bar and of 1 - alpha-bar": lambda *a: _original(
            *a, v_prediction=lambda o, x, keep, add: keep**2 * x - add**2 * o
        ),
        "for 'v_prediction', all signs are turned round: v is subtracted from the sample": lambda *a: _original(
            *a, v_prediction=lambda o, x, keep, add: add * o - keep * x
        ),
        "for 'v_prediction', the two roots are swapped": lambda *a: _original(
            *a, v_prediction=lambda o, x, keep, add: add * x - keep * o
        ),
        "for 'v_prediction', the two roots are swapped: that is the noise": lambda *a: _original(
            *a, v_prediction=lambda o, x, keep, add: add * x + keep * o
        ),
        "for 'v_prediction', nothing is divided, so that it works at alpha-bar 0 as well": lambda *a: _original(
            *a, v_prediction=lambda o, x, keep, add: keep * x - add * o if keep == 0 else (keep * x - add * o) / keep
        ),
        "for 'sample', the network has named the clean sample itself": lambda *a: _original(
            *a, sample=lambda o, x, keep, add: x
        ),
        "for 'sample', nothing is left to be divided": lambda *a: _original(
            *a, sample=lambda o, x, keep, add: o / keep
        ),
    },
)
def pred_original(draws: Draws):
    """The clean sample behind a network's output, for three kinds of output."""
    for kind in ("epsilon", "v_prediction", "sample"):
        for shape, dtype in [((2, 4, 3, 5), torch.float32), ((7,), torch.float64)]:
            kept = torch.tensor(draws.uniform(0.05, 0.9))
            yield (draws.normal(*shape, dtype=dtype), draws.normal(*shape, dtype=dtype), kept, kind)
    yield (draws.normal(3, 2), draws.normal(3, 2), torch.tensor(0.0), "v_prediction")
    yield (draws.normal(3, 2), draws.normal(3, 2), torch.tensor(1.0), "epsilon")


def step_of_diffusers(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise):
    """Return the step of a DDIM scheduler that knows these two places only."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=2, clip_sample=False)
    scheduler.alphas_cumprod = torch.stack([alpha_prod_t_prev, alpha_prod_t])
    scheduler.set_timesteps(2)
    return scheduler.step(noise_pred, 1, sample, eta=eta, variance_noise=noise).prev_sample


def _step(noise_pred, sample, here, there, eta, noise, *, spread=None, rest=None, fresh=None):
    variance = eta**2 * (1 - there) / (1 - here) * (1 - here / there)
    variance = variance if spread is None else spread(here, there, eta)
    guess = (sample - (1 - here) ** 0.5 * noise_pred) / here**0.5
    left = 1 - there - variance if rest is None else rest(there, variance)
    return there**0.5 * guess + left**0.5 * noise_pred + (variance**0.5 if fresh is None else fresh(variance)) * noise


@check.exercise(
    step_of_diffusers,
    mistakes={
        "eta is ignored: that is the step with eta 0": lambda *a: _step(*a[:4], 0.0, a[5]),
        "eta is ignored: that is the step with eta 1, DDPM's": lambda *a: _step(*a[:4], 1.0, a[5]),
        "fresh noise takes the place of predicted noise: subtract the variance under the root": lambda *a: _step(
            *a, rest=lambda there, variance: 1 - there
        ),
        "subtract the variance under the root, not sigma": lambda *a: _step(
            *a, rest=lambda there, variance: 1 - there - variance**0.5
        ),
        "subtract the variance under the root, not behind it": lambda *a: _step(
            *a, rest=lambda there, variance: ((1 - there) ** 0.5 - variance**0.5) ** 2
        ),
        "the noise is multiplied by sigma, the root of the variance": lambda *a: _step(*a, fresh=lambda v: v),
        "eta is a factor of sigma, so it stands squared in the variance": lambda *a: _step(
            *a, spread=lambda here, there, eta: eta * (1 - there) / (1 - here) * (1 - here / there)
        ),
        "the first quotient is upside down: less noise over more": lambda *a: _step(
            *a, spread=lambda here, there, eta: eta**2 * (1 - here) / (1 - there) * (1 - here / there)
        ),
        "the last factor is 1 minus the quotient of the two alpha-bars": lambda *a: _step(
            *a, spread=lambda here, there, eta: eta**2 * (1 - there) / (1 - here)
        ),
        "the last factor is 1 minus the quotient of the two alpha-bars, not their difference": lambda *a: _step(
            *a, spread=lambda here, there, eta: eta**2 * (1 - there) / (1 - here) * (there - here)
        ),
        "the first factor, the quotient of the two amounts of noise, is missing": lambda *a: _step(
            *a, spread=lambda here, there, eta: eta**2 * (1 - here / there)
        ),
        "the predicted noise is scaled for where the step ends: 1 - alpha_prod_t_prev, not alpha_prod_t": (
            lambda e, x, here, there, eta, z: _step(
                e, x, here, there, eta, z, rest=lambda there, variance: 1 - here - variance
            )
        ),
        "the fresh noise is added, not subtracted": lambda *a: _step(*a, fresh=lambda variance: -(variance**0.5)),
        "the fresh noise is missing": lambda *a: _step(*a, fresh=lambda variance: 0 * variance),
        "the two places are swapped: the guess is made at alpha_prod_t": lambda e, x, here, there, eta, z: _step(
            e, x, there, here, eta, z
        ),
    },
)
def ddim_step(draws: Draws):
    """The step between DDIM and DDPM, against diffusers' own."""
    for shape, eta in [((2, 4, 3, 5), 1.0), ((6,), 0.0), ((1, 3), draws.uniform(0.3, 0.7))]:
        here = torch.tensor(draws.uniform(0.05, 0.4))
        there = here + torch.tensor(draws.uniform(0.1, 0.4))
        yield (draws.normal(*shape), draws.normal(*shape), here, there, eta, draws.normal(*shape))
    for dtype, eta in [(torch.float64, draws.uniform(0.2, 0.5)), (torch.float32, 0.8)]:
        here, last = torch.tensor(draws.uniform(0.5, 0.9)), torch.tensor(1.0)  # the last step: to the clean sample
        yield (*[draws.normal(3, 2, dtype=dtype) for _ in range(2)], here, last, eta, draws.normal(3, 2, dtype=dtype))


def place_by_walking(start, value, alpha_prod_start, alpha_prod_now):
    """Walk there in nine steps of DDIM, with the exact guess, and return the place."""
    from sdlab import ddim_step as step

    places = torch.linspace(alpha_prod_start, alpha_prod_now, 10, dtype=torch.float64).tolist()
    sample = start
    for here, there in pairwise(places):
        noise_pred = (sample - here**0.5 * value) / (1 - here) ** 0.5
        sample = step(noise_pred, sample, here, there)
    return sample


@check.exercise(
    place_by_walking,
    without=(LOOP,),
    mistakes={
        "the walk ends at value only where alpha-bar is 1; before, noise is left": lambda x, c, a, b: c,
        "the noise is what is left of the start when the share of value is taken out": lambda x, c, a, b: (
            b**0.5 * c + (1 - b) ** 0.5 * x
        ),
        "value has shrunk at the start as well: take out its share, not all of it": lambda x, c, a, b: (
            b**0.5 * c + (1 - b) ** 0.5 * (x - c) / (1 - a) ** 0.5
        ),
        "the noise must be divided by the root of 1 - alpha-bar at the start": lambda x, c, a, b: (
            b**0.5 * c + (1 - b) ** 0.5 * (x - a**0.5 * c)
        ),
        "without the roots the way is a straight line in alpha-bar, and it is none": lambda x, c, a, b: (
            b * c + (1 - b) * (x - a * c) / (1 - a)
        ),
        "value shrinks with the root of alpha-bar now": lambda x, c, a, b: (
            c + (1 - b) ** 0.5 * (x - a**0.5 * c) / (1 - a) ** 0.5
        ),
        "the noise that is left has the root of 1 - alpha-bar now as its factor": lambda x, c, a, b: (
            b**0.5 * c + (x - a**0.5 * c) / (1 - a) ** 0.5
        ),
        "now and start are swapped": lambda x, c, a, b: (
            a**0.5 * c + (1 - a) ** 0.5 * (x - b**0.5 * c) / max(1 - b, 1e-9) ** 0.5
        ),
    },
)
def predict_place(draws: Draws):
    """Where the walk is, if there is only one picture in the world."""
    yield (1.0, 2.0, 0.05, 0.5)
    yield (draws.uniform(-2, -0.5), draws.uniform(0.5, 3), 0.0047, draws.uniform(0.2, 0.9))
    yield (draws.uniform(0.5, 2), draws.uniform(-3, -1), draws.uniform(0.05, 0.2), draws.uniform(0.4, 0.8))
    yield (draws.uniform(0.5, 2), draws.uniform(0.5, 2), draws.uniform(0.05, 0.2), 1.0)
    yield (draws.uniform(0.5, 2), 0.0, 0.3, 0.6)


def guess_of_the_exact_denoiser(noisy, alpha_prod_t, data, labels, wanted):
    """Return the exact best guess over the rows of data that bear the wanted label."""
    from ..lessons.lesson_04 import exact_noise_pred

    rows = [row for row, label in enumerate(labels) if wanted is None or label == wanted]
    noise_pred = exact_noise_pred(noisy, alpha_prod_t, data[rows])
    return (noisy - (1 - alpha_prod_t) ** 0.5 * noise_pred) / alpha_prod_t**0.5


def _guess(noisy, kept, data, labels, wanted, *, power=2, roots=True, width=2, dim=1, average=False, nearest=False):
    data = data[[label == wanted or wanted is None for label in labels]]
    factor = kept**0.5 if roots else kept if roots is False else 1.0
    distances = (noisy[:, None] - factor * data[None]) ** 2
    distances = (distances.mean(dim=2) if average else distances.sum(dim=2)) ** (power / 2)
    weights = torch.softmax(-distances / (width * (1 - kept)), dim=dim)
    return data[weights.argmax(dim=1)] if nearest else weights @ data


def _guess_struck_out(noisy, kept, data, labels, wanted):
    """Weigh all rows, and only then strike out those with other labels."""
    distances = (noisy[:, None] - kept**0.5 * data[None]).square().sum(dim=2)
    stays = torch.tensor([label == wanted or wanted is None for label in labels])
    return (torch.softmax(-distances / (2 * (1 - kept)), dim=1) * stays) @ data


@check.exercise(
    guess_of_the_exact_denoiser,
    mistakes={
        "the labels are ignored: average over the rows with the wanted label only": lambda *a: _guess(*a[:4], None),
        "with wanted None all rows count": lambda x, k, d, la, w: (
            torch.zeros_like(x) if w is None else _guess(x, k, d, la, w)
        ),
        "the squared distance over a row is the sum over its numbers, not their mean": lambda *a: _guess(
            *a, average=True
        ),
        "square the distances": lambda *a: _guess(*a, power=1),
        "data shrinks with the root of alpha-bar": lambda *a: _guess(*a, roots=False),
        "data must shrink like the clean sample did before the two are compared": lambda *a: _guess(*a, roots=None),
        "compare labels with ==, for 'man' is in 'woman' as well": lambda x, k, d, la, w: _guess(
            x, k, d, [w if w is not None and w in label else label for label in la], w
        ),
        **{
            f"compare labels with ==, whole: {said}": lambda x, k, d, la, w, same=same: _guess(
                x, k, d, [w if w is not None and same(label, w) else label for label in la], w
            )
            for said, same in {
                "'man' is contained in 'woman', too": lambda label, w: label in w,
                "'mandrill' begins as 'man' does": lambda label, w: label.startswith(w),
                "'man' begins as 'mandrill' does": lambda label, w: w.startswith(label),
                "'mouse' has the first letter of 'man'": lambda label, w: label[:1] == w[:1],
                "'Woman' is another label than 'woman'": lambda label, w: label.lower() == w.lower(),
            }.items()
        },
        "without the rows of other labels the weights no longer add up to 1: leave these rows out first": (
            _guess_struck_out
        ),
        "that is the mean of the rows; the likelier ones must weigh more": lambda x, k, d, la, w: _guess(
            x, k, d, la, w, width=1e12
        ),
        "the factor 2 below the distances is missing": lambda *a: _guess(*a, width=1),
        "shrink data, not the noisy rows, by the root of alpha-bar": lambda x, k, d, la, w: _guess(
            x * k**0.5, k, d, la, w
        ),
        "the weights of each noisy row must add up to 1": lambda *a: _guess(*a, dim=0),
        "that is the likeliest row; the best guess is an average": lambda *a: _guess(*a, nearest=True),
        "the distances are divided by 2 (1 - alpha-bar)": lambda x, k, d, la, w: _guess(
            x, k, d, la, w, width=2 / (1 - k)
        ),
    },
)
def best_guess_of(draws: Draws):
    """The exact best guess among the data with one label."""
    for count, rows, size, names in [(5, 12, 3, "abc"), (1, 7, 1, "ab"), (3, 9, 2, "ab")]:
        labels = [names[row % len(names)] for row in range(rows)]
        data, noisy = draws.normal(rows, size), draws.normal(count, size)
        for wanted in ("a", None):
            yield (noisy, torch.tensor(draws.uniform(0.2, 0.6)), data, labels, wanted)
    data = draws.normal(8, 1200, dtype=torch.float64)  # so long that every weight is 0 before the division
    yield (draws.normal(4, 1200, dtype=torch.float64), torch.tensor(0.3), data, ["cat", "dog"] * 4, "dog")
    yield (draws.normal(2, 3, dtype=torch.float64), torch.tensor(0.5), data[:5, :3], list("vwxyz"), "x")
    yield (draws.normal(4, 2), torch.tensor(0.4), draws.normal(9, 2), ["woman", "man", "cat"] * 3, "man")
    labels = ["woman", "man", "mandrill", "Woman", "wolf", "mouse"] * 2
    for wanted in ("woman", "man", "mandrill"):
        yield (draws.normal(3, 2), torch.tensor(draws.uniform(0.3, 0.6)), draws.normal(12, 2), labels, wanted)


@functools.cache
def portraits(seed: int, count: int = 5):
    """Return plans of portraits that are no training data, and their latents [count, 4, 16, 16]."""
    from sdlab import encode
    from sdlab.images import to_batch

    from ..portraits import draw_portrait, plan_portrait

    pipe = Pocket().resolve()
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    plans = [plan_portrait(60_002_000 + 100 * seed + number) for number in range(count)]
    return plans, encode(pipe, to_batch([draw_portrait(plan, size=size).image for plan in plans]))


def walk_up(step, latents, steps: int = STEPS, *, predict=None):
    """Return the noise that ``step`` finds when it walks up from clean latents, with the pocket U-Net."""
    from sdlab import noise_predictor
    from sdlab.samplers import choose_timesteps

    pipe = Pocket().resolve()
    predict, here = predict or noise_predictor(pipe), torch.ones(())
    for t in reversed(choose_timesteps(steps)):
        there = pipe.scheduler.alphas_cumprod[t]
        latents = step(predict(latents, t), latents, here, there)
        _check_latents(latents)
        here = there
    return latents


def _check_latents(latents) -> None:
    if not isinstance(latents, torch.Tensor):
        raise Wrong(f"return the next sample as a tensor, not {type(latents).__name__}")
    if latents.ndim != 4 or latents.shape[1:] != (4, 16, 16):
        raise Wrong(f"return the next sample in the shape of the sample; yours has the shape {list(latents.shape)}")
    if not latents.isfinite().all():
        raise Wrong(
            "the samples become infinite on the way up: alpha-bar is 1 at the clean end, so do not divide by its rest"
        )


def share_alike(plans, pictures) -> float:
    """Return which share of the attributes of the plans the judge reads in the pictures."""
    from ..judging import judge_images
    from ..portraits import NAMES

    pairs = zip(judge_images(list(pictures)), plans, strict=True)
    marks = [reading.values[name] == getattr(plan.attributes, name) for reading, plan in pairs for name in NAMES]
    return sum(marks) / len(marks)


def up_of_ddim(noise_pred, sample, here, there):
    """Return the step of DDIM from alpha-bar ``here`` to ``there``, which may be the noisier place."""
    from sdlab import ddim_step as step

    return step(noise_pred, sample, here, there)


def _up(noise_pred, sample, here, there, *, keep=None, add=None, clean=None):
    guess = (sample - (1 - here) ** 0.5 * noise_pred) / here**0.5
    guess = guess if clean is None else clean(guess)
    return (there**0.5 if keep is None else keep(here, there)) * guess + (
        (1 - there) ** 0.5 if add is None else add(here, there)
    ) * noise_pred


UP_MISTAKES = {
    "the guess gets a smaller factor with every step, the noise a larger one: use the alpha-bar of the next place": (
        lambda e, x, here, there: _up(e, x, here, there, keep=lambda a, b: a**0.5, add=lambda a, b: (1 - a) ** 0.5)
    ),
    "the root of 1 - alpha-bar is (1 - alpha-bar) ** 0.5, not 0.5 ** (1 - alpha-bar)": lambda *a: _up(
        *a, add=lambda a, b: 0.5 ** (1 - b)
    ),
    "the factors are the roots of alpha-bar and of 1 - alpha-bar": lambda *a: _up(
        *a, keep=lambda a, b: b, add=lambda a, b: 1 - b
    ),
    "the clean guess is not clamped: latents go beyond 1": lambda *a: _up(*a, clean=lambda guess: guess.clamp(-1, 1)),
    "the noise is added to the guess, not taken away": lambda *a: _up(*a, add=lambda a, b: -((1 - b) ** 0.5)),
    "the two roots are swapped": lambda *a: _up(*a, keep=lambda a, b: (1 - b) ** 0.5, add=lambda a, b: b**0.5),
    "the clean guess takes the noise of the sample away before it is divided": lambda e, x, here, there: (
        there**0.5 * x + (1 - there) ** 0.5 * e
    ),
    "the guess takes the noise away, it does not add it": lambda e, x, here, there: (
        there**0.5 * (x + (1 - here) ** 0.5 * e) / here**0.5 + (1 - there) ** 0.5 * e
    ),
    "the guess is divided by the root of alpha-bar here": lambda e, x, here, there: (
        there**0.5 * (x - (1 - here) ** 0.5 * e) + (1 - there) ** 0.5 * e
    ),
}


def _single_steps(draws: Draws) -> list[tuple]:
    """Return arguments of steps up, one of them from the clean end."""
    fresh = Draws(draws.seed, secret=17)
    places = [(1.0, 0.97), (0.9, 0.6), (0.4, 0.05)]
    return [(fresh.normal(2, 4, 16, 16), 2 * fresh.normal(2, 4, 16, 16), torch.tensor(here), torch.tensor(there))
            for here, there in places]  # fmt: skip


def _step_up_mistake(attempt, draws: Draws) -> str | None:
    """Return the mistake that explains what single steps return, if one does."""
    tried = [(arguments, attempt(*arguments)) for arguments in _single_steps(draws)]
    for said, mistake in UP_MISTAKES.items():
        if all(difference(actual, mistake(*arguments)) is None for arguments, actual in tried):
            return said
    if _adds_noise(attempt, draws):
        return "no fresh noise is added on the way up: the same predicted noise is mixed in again"
    return None


def _because(mistake: str | None) -> str:
    return f" ({mistake})" if mistake else ""


def _adds_noise(attempt, draws: Draws) -> bool:
    """Say whether a step is another one with other random numbers, or holds noise that was not given to it."""
    arguments, answers = _single_steps(draws)[1], []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            answers.append(attempt(*arguments))
    return difference(*answers) is not None or _looks_noised(answers[0], arguments)


def _looks_noised(step, arguments) -> bool:
    """Say whether what a step adds is neither the sample nor the prediction, but noise of its own."""
    noise_pred, sample = arguments[0].flatten().double(), arguments[1].flatten().double()
    ground = torch.stack([sample, noise_pred], dim=1)
    answer = step.flatten().double()
    if answer.shape != sample.shape:
        return False
    rest = answer - ground @ torch.linalg.lstsq(ground, answer[:, None]).solution[:, 0]
    like = torch.corrcoef(torch.stack([rest, sample.clamp(-1, 1)]))[0, 1].abs()
    return bool(rest.std() > 0.2 and like < 0.1 and rest.abs().max() < 6)


@check.effect
def step_up(attempt, draws: Draws) -> str:
    """One step from a picture towards the noise that it would be drawn from."""
    from sdlab import noise_predictor, sample
    from sdlab.latents import decode_latents

    pipe = Pocket().resolve()
    plans, latents = portraits(draws.seed)
    found = walk_up(attempt, latents)
    spread = found.std().item()
    if not 0.75 < spread < 1.2:
        raise Wrong(
            f"after {STEPS} steps up, noise of standard deviation 1 should be found, and yours has {spread:.1f}: "
            + (_step_up_mistake(attempt, draws) or "look at the factors of the guess and of the noise, one by one")
        )
    redrawn = sample(
        noise_predictor(pipe), found, sampler="ddim", num_inference_steps=STEPS,
        alphas_cumprod=pipe.scheduler.alphas_cumprod,
    )[-1]  # fmt: skip
    share = share_alike(plans, decode_latents(pipe, redrawn))
    if share < SHARE:
        raise Wrong(
            f"drawn again from the noise that was found, the portraits keep {share:.0%} of their attributes, and "
            f"{SHARE:.0%} are asked for: the step up must be exactly the one that DDIM undoes"
            + _because(_step_up_mistake(attempt, draws))
        )
    for arguments in _single_steps(draws):
        if said := difference(attempt(*arguments), up_of_ddim(*arguments)):
            raise Wrong(_step_up_mistake(attempt, draws) or f"nearly the step that DDIM undoes, but not quite: {said}")
    return f"drawn again from their noise, the portraits keep more than {SHARE:.0%} of their attributes"
