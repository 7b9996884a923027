"""Checks of lab 05: the arithmetic of the VAE, and a change of clothes in the latent space."""

import functools
import math
from itertools import count, islice

import torch

from .attempt import Pocket
from .exercise import Draws, Lab
from .outcome import Wrong

check = Lab("05", "Work the door to the latent space")

PAIRS, SHIRTS, KEPT = 10, 0.7, 0.8
KEEP = ("subject", "eyes", "hair", "hat", "glasses")


def sample_of_diffusers(moments, noise):
    """Return the latents that diffusers' own distribution makes of this noise."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    distribution = DiagonalGaussianDistribution(moments)
    return distribution.mean + distribution.std * noise


def _sampled(moments, noise, *, std=lambda x: (x / 2).exp(), clamp=(-30, 20), halves=None):
    mean, logvar = halves(moments) if halves else moments.chunk(2, dim=1)
    return mean + std(logvar.clamp(*clamp)) * noise


@check.exercise(
    sample_of_diffusers,
    mistakes={
        "the noise is stretched by the variance: the standard deviation is its root": lambda m, n: _sampled(
            m, n, std=torch.exp
        ),
        "the second half holds logarithms of variances: they must be turned into standard deviations": lambda m, n: (
            _sampled(m, n, std=lambda x: x)
        ),
        "the logarithm must be undone with exp, not only halved or rooted": lambda m, n: _sampled(
            m, n, std=lambda x: x / 2
        ),
        "the log-variance is not kept between -30 and 20": lambda m, n: _sampled(m, n, clamp=(-math.inf, math.inf)),
        "the log-variance must not rise above 20 either": lambda m, n: _sampled(m, n, clamp=(-30, math.inf)),
        "the log-variance must not fall below -30": lambda m, n: _sampled(m, n, clamp=(-math.inf, 20)),
        "the lower bound of the log-variance is -30, not -20": lambda m, n: _sampled(m, n, clamp=(-20, 20)),
        "keep the log-variance between the bounds before it is halved, not after": lambda m, n: _sampled(
            m, n, clamp=(-60, 40)
        ),
        "keep the log-variance between the bounds, not the standard deviation": lambda m, n: _sampled(
            m, n, clamp=(-math.inf, math.inf), std=lambda x: (x / 2).exp().clamp(-30, 20)
        ),
        "the noise is given: stretch that, draw none of your own": lambda m, n: _sampled(m, torch.randn_like(n)),
        "the two halves are swapped: first the means, then the log-variances": lambda m, n: _sampled(
            m, n, halves=lambda m: m.chunk(2, dim=1)[::-1]
        ),
        "the halves lie one behind the other: the first half of the channels, then the second, not every other one": (
            lambda m, n: _sampled(m, n, halves=lambda m: (m[:, 0::2], m[:, 1::2]))
        ),
        "the noise is missing": lambda m, n: m.chunk(2, dim=1)[0],
        "the noise must be stretched by the standard deviation before it is added": lambda m, n: _sampled(
            m, n, std=lambda x: 1
        ),
    },
)
def sample_latents(draws: Draws):
    """Latents from what the encoder's last layer returns, and from given noise."""
    for shape in [(2, 4, 3, 5), (1, 4, 6, 6), (3, 2, 1, 7)]:
        yield torch.cat([draws.normal(*shape), 2 * draws.normal(*shape) - 3], dim=1), draws.normal(*shape)
    double = torch.float64
    yield draws.normal(1, 6, 4, 2, dtype=double), draws.normal(1, 3, 4, 2, dtype=double)
    moments = draws.normal(1, 4, 2, 2)
    moments[0, 2, 0], moments[0, 3, 1] = 50, -75
    moments[0, 1, 1] = 0  # where so little noise comes through, a mean would hide it,
    noise = draws.normal(1, 2, 2, 2)
    noise[0, 1, 1] = 5000 * (1 + noise[0, 1, 1].abs())  # and so would noise of the usual size
    yield moments, noise


def kl_of_diffusers(mean, std, other_mean, other_std):
    """Return the KL divergence [N] as diffusers computes it."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    one, other = (
        DiagonalGaussianDistribution(torch.cat([middle, 2 * spread.log()], dim=1))
        for middle, spread in ((mean, std), (other_mean, other_std))
    )
    return one.kl(other)


def _kl(
    mean,
    std,
    other_mean,
    other_std,
    *,
    total=None,
    half=0.5,
    one=1.0,
    power=2,
    log_power=2,
    ratio_power=None,
    over=True,
):
    apart = (mean - other_mean) ** 2 / (other_std**power if over else 1)
    ratio = (std / other_std) ** (ratio_power or power)
    each = half * (apart + ratio - one - ((std / other_std) ** log_power).log())
    return (total or (lambda x: x.flatten(1).sum(dim=1)))(each)


@check.exercise(
    kl_of_diffusers,
    mistakes={
        "sum over all numbers of a picture, do not average": lambda *a: _kl(*a, total=lambda x: x.mean(dim=(1, 2, 3))),
        "each picture has a KL term of its own: do not sum over the batch": lambda *a: _kl(*a, total=torch.sum),
        "sum over channels, height and width, and keep only the batch": lambda *a: _kl(*a, total=lambda x: x),
        "the half in front is missing": lambda *a: _kl(*a, half=1),
        "the -1 is missing": lambda *a: _kl(*a, one=0),
        "the formula has variances, the squares of the standard deviations": lambda *a: _kl(*a, power=1, log_power=1),
        "the bracket has the ratio of the variances: square the standard deviations": lambda *a: _kl(*a, ratio_power=1),
        "the logarithm is of the variances, so it is twice that of the standard deviations": lambda *a: _kl(
            *a, log_power=1
        ),
        "the two distributions are swapped": lambda mean, std, other_mean, other_std: _kl(
            other_mean, other_std, mean, std
        ),
        "the distance of the means must be measured in the other's variance": lambda *a: _kl(*a, over=False),
        "that is the distance from the standard curve: the other mean and std are not used": lambda mean, std, *_: _kl(
            mean, std, torch.zeros_like(mean), torch.ones_like(std)
        ),
    },
)
def kl_between(draws: Draws):
    """How far one row of bell curves is from another, for each picture."""

    def spread(*shape, dtype=torch.float32):
        return (0.5 * draws.normal(*shape, dtype=dtype)).exp()

    for shape in [(2, 4, 3, 5), (3, 1, 2, 2), (1, 4, 6, 7)]:
        yield draws.normal(*shape), spread(*shape), draws.normal(*shape), spread(*shape)
    shape = (2, 3, 4, 4)
    yield draws.normal(*shape), spread(*shape), torch.zeros(shape), torch.ones(shape)
    double = {"dtype": torch.float64}
    yield tuple(make(*shape, **double) for make in (draws.normal, spread, draws.normal, spread))


@functools.cache
def _vae(block_out_channels: tuple, latent_channels: int):
    from diffusers import AutoencoderKL

    levels = len(block_out_channels)
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=block_out_channels,
            latent_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=8,
        )


def latents_of_a_real_vae(height, width, block_out_channels, latent_channels):
    """Build the VAE, encode a picture of shapes only, and count."""
    vae = _vae(tuple(block_out_channels), latent_channels)
    with torch.no_grad():
        latents = vae.encode(torch.empty(1, 3, height, width, device="meta")).latent_dist.mean
    return {"shape": list(latents.shape[1:]), "times_fewer": 3 * height * width / latents[0].numel()}


def _told(height, width, channels, *, factor=None, round_=lambda x: x // 1, colours=3, times=None):
    high, wide = (int(round_(side / factor)) for side in (height, width))
    fewer = times if times is not None else colours * height * width / (channels * high * wide)
    return {"shape": [channels, high, wide], "times_fewer": float(fewer)}


def _channels_last(height, width, block_out_channels, channels):
    said = _told(height, width, channels, factor=2 ** (len(block_out_channels) - 1))
    return {**said, "shape": [*said["shape"][1:], channels]}


def _with_batch(height, width, block_out_channels, channels):
    said = _told(height, width, channels, factor=2 ** (len(block_out_channels) - 1))
    return {**said, "shape": [1, *said["shape"]]}


@check.exercise(
    latents_of_a_real_vae,
    mistakes={
        "every level but one halves: there is one halving less than levels": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** len(b)
        ),
        "the factor is not always 8: count the levels of this VAE": lambda h, w, b, c: _told(h, w, c, factor=8),
        "each level but one halves what is left, so the factor is a power of 2": lambda h, w, b, c: _told(
            h, w, c, factor=2 * (len(b) - 1)
        ),
        "an odd side is halved and rounded down": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), round_=math.ceil
        ),
        "a side is a whole number: round down, not to the nearest": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), round_=round
        ),
        "a side is a whole number, rounded down": lambda h, w, b, c: {
            "shape": [c, h / 2 ** (len(b) - 1), w / 2 ** (len(b) - 1)],
            "times_fewer": _told(h, w, c, factor=2 ** (len(b) - 1))["times_fewer"],
        },
        "where a side was rounded down, the latents are smaller still: count the numbers of both": lambda h, w, b, c: (
            _told(h, w, c, factor=2 ** (len(b) - 1), times=3 * 4 ** (len(b) - 1) / c)
        ),
        "times_fewer need not be a whole number: divide with /": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), times=_told(h, w, c, factor=2 ** (len(b) - 1))["times_fewer"] // 1
        ),
        "times_fewer is pixels over latents, not latents over pixels": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), times=1 / _told(h, w, c, factor=2 ** (len(b) - 1))["times_fewer"]
        ),
        "it is not always 48: count the numbers of both": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), times=48
        ),
        "the channels come first: [channels, height, width]": _channels_last,
        "the shape of one picture's latents has no batch: [channels, height, width]": _with_batch,
        "height comes before width": lambda h, w, b, c: _told(w, h, c, factor=2 ** (len(b) - 1)),
        "a picture has three colours: three numbers a pixel": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), colours=1
        ),
        "the latents have channels too: count all numbers of both": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), colours=3 * c
        ),
        "count the numbers, not the length of one side": lambda h, w, b, c: _told(
            h, w, c, factor=2 ** (len(b) - 1), times=2 ** (len(b) - 1)
        ),
        "the channels of the latents are latent_channels, not those of the last level": lambda h, w, b, c: _told(
            h, w, b[-1], factor=2 ** (len(b) - 1)
        ),
    },
)
def predict_latents(draws: Draws):
    """The shape of the latents and how many times fewer numbers they are."""
    yield 512, 512, [128, 256, 512, 512], 4
    yield 8 * draws.integer(6, 9), 8 * draws.integer(10, 14), [8, 16, 16, 32], 4
    yield 4 * draws.integer(6, 9), 4 * draws.integer(10, 14), [8, 16, 16], draws.choice([3, 16])
    yield 8 * draws.integer(6, 9) + 5, 8 * draws.integer(10, 14) + 3, [16, 16, 16, 16], 4
    yield 16 * draws.integer(3, 5), 48, [8, 8, 16, 16, 16], 8


def factor_of_torch(batches):
    """Return 1 / std of all latents together."""
    return 1 / torch.cat([batch.double() for batch in batches]).std().item()


def _factor_of_sums(batches, *, batches_count_alike=False, dtype=torch.float64) -> float:
    batches = [batch.to(dtype) for batch in batches]
    number = sum(batch.numel() for batch in batches)

    def mean(power: int) -> float:
        if batches_count_alike:
            return _mean_of((batch**power).mean().item() for batch in batches)
        return sum((batch**power).sum().item() for batch in batches) / number

    return 1 / math.sqrt(mean(2) - mean(1) ** 2)


def _mean_of(values) -> float:
    values = list(values)
    return sum(values) / len(values)


@check.exercise(
    factor_of_torch,
    mistakes={
        "1 over the standard deviation, not over the variance": lambda b: 1 / torch.cat(b).double().var().item(),
        "that is the standard deviation: the factor is 1 over it": lambda b: torch.cat(b).double().std().item(),
        "the variance is the mean of the squares minus the square of the mean: the mean is not 0 here": lambda b: (
            1 / torch.cat(b).double().square().mean().sqrt().item()
        ),
        "a mean of the batches' standard deviations will not do: the batches differ in size and in mean": (
            lambda b: 1 / _mean_of(batch.double().std().item() for batch in b)
        ),
        "a mean of the batches' variances misses how far the batches' means lie apart": lambda b: (
            1 / _mean_of(batch.double().var().item() for batch in b) ** 0.5
        ),
        "a mean of the batches' means will not do: the batches differ in size": lambda b: _factor_of_sums(
            b, batches_count_alike=True
        ),
        "a mean of the batches' own factors is not the factor of all latents": lambda b: _mean_of(
            1 / batch.double().std().item() for batch in b
        ),
        "one factor for all channels: the channels' means belong to the spread too": lambda b: (
            1 / torch.cat(b).double().std(dim=(0, 2, 3)).mean().item()
        ),
        "only the first batch was used": lambda b: 1 / b[0].double().std().item(),
        "sums of float16 overflow at 65504: turn the latents into float64 first": lambda b: (
            0.0 if b[0].dtype == torch.float16 else _factor_of_sums(b, dtype=torch.float32)
        ),
        "float32 is too coarse for a small difference of two large numbers: turn the latents into float64": lambda b: (
            _factor_of_sums(b, dtype=torch.float32)
        ),
    },
)
def scaling_of_batches(draws: Draws):
    """The scaling factor of latents that come in batches."""

    def latents(number: int, side: int, *, mean: float, std: float):
        shifts = torch.tensor([-0.7, 0.2, 0.9, 0.4]).view(1, 4, 1, 1)
        return std * draws.normal(number, 4, side, side) + mean + shifts

    yield ([latents(3, 16, mean=0.5, std=1.3)],)
    yield ([latents(number, 16, mean=draws.uniform(-1, 1), std=draws.uniform(0.5, 3)) for number in (6, 2, 1)],)
    yield ([latents(number, 12, mean=draws.uniform(2, 3), std=draws.uniform(4, 6)) for number in (5, 5)],)
    yield ([(2 * draws.normal(20, 4, 16, 16) + 3).half(), (3 * draws.normal(6, 4, 16, 16)).half()],)
    far = draws.uniform(3000, 4000)  # the variance is a small difference of two large numbers
    yield ([latents(number, 8, mean=far, std=0.5) for number in (4, 3)],)


@functools.cache
def sitters(seed: int) -> list[tuple]:
    """Return pairs (plan of a person, plan of the clothes) with different shirts, in no training set."""
    from ..portraits import plan_portrait

    first = 72_000_000 + 10_000 * seed
    pairs = ((plan_portrait(first + n), plan_portrait(first + 5000 + n)) for n in count())
    different = (pair for pair in pairs if pair[0].attributes.shirt != pair[1].attributes.shirt)
    return list(islice(different, PAIRS))


@functools.cache
def pictures(seed: int) -> list[tuple]:
    """Return the pictures uint8 [128, 128, 3] of the pairs of ``sitters``."""
    from ..portraits import draw_portrait

    return [tuple(draw_portrait(plan).image for plan in pair) for pair in sitters(seed)]


def shares(latents: torch.Tensor, pairs: list[tuple]) -> tuple[float, float]:
    """Return what the judge finds in decoded latents: shirts of the clothes, attributes of the person, from 0 to 1."""
    from sdlab import decode

    from ..judging import judge_images, load_judge

    readings = judge_images(list(decode(Pocket().resolve(), latents)), load_judge())
    shirts = [
        reading.values["shirt"] == clothes.attributes.shirt
        for reading, (_, clothes) in zip(readings, pairs, strict=True)
    ]
    kept = [
        reading.values[name] == getattr(person.attributes, name)
        for reading, (person, _) in zip(readings, pairs, strict=True)
        for name in KEEP
    ]
    return sum(shirts) / len(shirts), sum(kept) / len(kept)


@check.effect
def new_shirt(attempt, draws: Draws) -> str:
    """A portrait in another portrait's shirt, by way of the latents."""
    made = []
    for person, clothes in pictures(draws.seed):
        latents = attempt(Pocket(), person.copy(), clothes.copy())
        if not isinstance(latents, torch.Tensor) or list(latents.shape) != [1, 4, 16, 16]:
            what = list(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise Wrong(f"return latents, a tensor [1, 4, 16, 16]; you returned {what}")
        if not latents.is_floating_point() or not latents.isfinite().all():
            raise Wrong("latents are finite floating point numbers")
        if not made:
            _look_at_the_size(latents.float(), person, clothes)
        made.append(latents.float())
    shirts, kept = shares(torch.cat(made), sitters(draws.seed))
    if shirts < SHIRTS or kept < KEPT:
        raise Wrong(
            f"the judge sees the new shirt in {shirts:.0%} of the pictures and still reads {kept:.0%} of the person; "
            f"{SHIRTS:.0%} and {KEPT:.0%} are asked for: {_advice(shirts, kept)}"
        )
    return "the judge sees the new shirts, and the same people in them"


def _look_at_the_size(latents, person, clothes) -> None:
    """Raise Wrong if the top rows are not the person's scaled latents, and say what they are instead."""
    from sdlab import encode
    from sdlab.images import to_batch

    pipe = Pocket().resolve()
    top, others = encode(pipe, to_batch([person, clothes]))[:, :, :4].unbind()
    own = latents[0, :, :4]
    factor = pipe.vae.config.scaling_factor

    def fits(expected, times=1.0):
        return (own - times * expected).norm() < 0.15 * (times * expected).norm()

    if fits(top):
        return _look_at_the_rows(latents, *encode(pipe, to_batch([person, clothes])).split(1))
    if fits(others) or fits(others, 1 / factor):
        raise Wrong("the upper part comes from the clothes: the head is the person's")
    said = {
        1 / factor: "the scaling factor is missing: the U-Net's latents are the encoder's times scaling_factor",
        1 / factor**2: "the scaling factor is divided by: that is for the way back, here multiply",
        factor: "the scaling factor is applied twice",
    }
    for times, text in said.items():
        if fits(top, times):
            raise Wrong(text)
    raise Wrong(
        "the upper rows are not the person's latents: give the encoder pixels from -1 to 1, colours first, "
        "and cut between rows, not columns"
    )


def _look_at_the_rows(latents, person, clothes) -> None:
    """Raise Wrong if some cells are no latents of the two pictures, nor lie between them."""
    apart = clothes - person
    share = ((latents - person) * apart).sum(dim=1, keepdim=True) / apart.square().sum(dim=1, keepdim=True)
    off = latents - person - share.nan_to_num().clamp(0, 1) * apart
    worst = off.square().sum(dim=(0, 1, 3)).sqrt() / latents.square().sum(dim=(0, 1, 3)).sqrt().clamp(min=1e-6)
    if worst.max() > 0.12:
        raise Wrong(
            f"row {int(worst.argmax())} of your latents is neither the person's nor the clothes': "
            "encode both pictures whole, and join their latents, not their pixels"
        )


def _advice(shirts: float, kept: float) -> str:
    if shirts >= SHIRTS:
        return "too much of the person is gone, so cut lower"
    return "the old shirt is still there, so cut higher" if kept >= KEPT else "look at the decoded pictures"
