"""Checks of lab 02: stopping in time, reading curves, choosing a remedy, and finding copies."""

import functools
import math
from statistics import median

import torch

from .exercise import Draws, Lab
from .outcome import Wrong

check = Lab("02", "Tell learning from memorising")

DIAGNOSES = ("not converging", "underfitting", "overfitting", "generalising")
STEPS = 300  # of a training to be diagnosed
BAR = 1.7  # times the noise: what a cured training must reach on unseen points
LIMITS = {"points": (8, 500), "width": (1, 64), "learning_rate": (1e-5, 10.0), "steps": (1, 1000)}


def stop_with_patience(validation_errors, patience, min_drop):
    """Return the step that early stopping keeps and the last step it trains."""
    best, kept = math.inf, 0
    for step, error in enumerate(validation_errors):
        if error < best - min_drop:
            best, kept = error, step
        if step - kept >= patience:
            return kept, step
    return kept, len(validation_errors) - 1


def _stop(
    errors, patience, min_drop, *, late=0, first=0, ties=False, count_all=False, previous=False, creeping=False, start=0
):
    best, kept, bad = start or math.inf, 0, 0
    for step, error in enumerate(errors):
        limit = best - min_drop
        if error < limit or (ties and error <= limit):
            best, kept = error, step
        else:
            bad += 1
            best = error if previous or (creeping and error < best) else best
        if (bad if count_all else step - kept) >= patience + late:
            return kept + first, step + first
    return kept + first, len(errors) - 1 + first


@check.exercise(
    stop_with_patience,
    mistakes={
        "that is the lowest error of the whole curve; the training that gave up never saw its end": lambda e, p, m: (
            e.index(min(x for x in e if x == x)),
            stop_with_patience(e, p, m)[1],
        ),
        "without patience: the training stops only when the best step is patience steps ago": lambda e, p, m: (
            stop_with_patience(e, 1, m)
        ),
        "that is without patience: one step that is no new best does not end the training": lambda e, p, m: _stop(
            e, 1, m, count_all=True
        ),
        "keep the best step, not the last one": lambda e, p, m: (stop_with_patience(e, p, m)[1],) * 2,
        "a fall of less than min_drop does not count as a new best": lambda e, p, m: stop_with_patience(e, p, 0.0),
        "one step too patient: stop as soon as the best step is patience steps ago": lambda *a: _stop(*a, late=1),
        "one step too impatient: stop when the best step is patience steps ago, not earlier": lambda *a: _stop(
            *a, late=-1
        ),
        "count the steps from 0, as the list does": lambda *a: _stop(*a, first=1),
        "an error as low as the best one is no new best": lambda *a: _stop(*a, ties=True),
        "a new best starts the waiting again: do not add up all steps that were no best": lambda *a: _stop(
            *a, count_all=True
        ),
        "compare with the best error so far, not with the step before": lambda *a: _stop(*a, previous=True),
        "min_drop is measured from the error of the last new best; small falls in between do not move it": lambda *a: (
            _stop(*a, creeping=True)
        ),
        "errors may be above 1: begin with a best error that any number is below": lambda *a: _stop(*a, start=1.0),
        "begin with a best error that any number is below; the first error itself may be nan": lambda e, p, m: _stop(
            e, p, m, start=e[0]
        ),
        "the order is the other way round: first the step to keep, then the last step": lambda *a: stop_with_patience(
            *a
        )[::-1],
    },
)
def early_stop(draws: Draws):
    """Which step early stopping keeps, and when it gives up."""
    yield ([0.9, 0.5, 0.6, 0.4, 0.45, 0.44, 0.43, 0.42, 0.2], 3, 0.0)  # gives up before the lowest
    yield ([0.9, 0.5, 0.6, 0.55, 0.4, 0.41, 0.3, 0.35, 0.36], 3, 0.0)  # waits, and is right to; the list ends first
    yield ([0.9, 0.5, 0.5, 0.5, 0.4], 2, 0.0)
    yield ([0.9, 0.5, 0.49, 0.48, 0.47, 0.1], 3, 0.05)
    yield ([1.0, 0.8, math.nan, 0.9, 0.7, math.nan, math.nan, math.nan, 0.1], 3, 0.0)
    yield ([7.0, 6.0, 6.5, 5.0, 5.5, 5.6, 4.0], 3, 0.0)
    yield ([math.nan, 7.0, 6.0, 6.5, 5.0, 5.5, 5.6, 4.0], 3, 0.0)
    yield ([0.9, 0.87, 0.84, 0.81, 0.78, 0.8, 0.79, 0.2], 3, 0.05)  # falls by little and little
    for length, patience, min_drop in [(40, 5, 0.0), (60, draws.integer(3, 9), 0.02), (30, 30, 0.0), (25, 2, 0.01)]:
        fall = torch.linspace(1, 0.3, length) + 0.08 * draws.normal(length)
        yield ([round(float(error), 4) for error in fall], patience, min_drop)


def errors_of_four_points(noise, share):
    """Return both errors, taken over four points whose old and new noise are independent, the rule being 0."""
    old, new = noise * torch.tensor([1.0, 1, -1, -1]).double(), noise * torch.tensor([1.0, -1, 1, -1]).double()
    answers = share * old
    training, validation = (answers - old).square().mean(), (answers - new).square().mean()
    return {"training": training.item(), "validation": validation.item()}


def _errors(noise, training, validation):
    return {"training": training * noise**2, "validation": validation * noise**2}


@check.exercise(
    errors_of_four_points,
    mistakes={
        "what was learned by heart is of no use on new noise, it adds to it": lambda n, s: _errors(n, (1 - s) ** 2, 1),
        "independent noise adds up by its variances, not by its standard deviations": lambda n, s: _errors(
            n, (1 - s) ** 2, (1 + s) ** 2
        ),
        "new noise is independent of the old, so nothing of it can be taken away": lambda n, s: _errors(
            n, (1 - s) ** 2, 1 - s**2
        ),
        "on a training point the same noise is on both sides: what is left of it is 1 - share": lambda n, s: _errors(
            n, 1 - s**2, 1 + s**2
        ),
        "the two errors are swapped: new points are the harder ones": lambda n, s: _errors(n, 1 + s**2, (1 - s) ** 2),
        "the errors are mean squares: take no root": lambda n, s: {
            "training": (1 - s) * n,
            "validation": n * math.sqrt(1 + s**2),
        },
        "the share counts: only with share 1 is everything learned by heart": lambda n, s: _errors(n, 0, 2),
        "share is the part of the noise that was learned; what is left on a training point is 1 - share": lambda n, s: (
            _errors(n, s**2, 1 + s**2)
        ),
        "what was learned by heart is multiplied by share, and its variance by the square of share": lambda n, s: (
            _errors(n, (1 - s) ** 2, 1 + s)
        ),
        "variance goes with the square: square the noise": lambda n, s: {
            "training": (1 - s) ** 2 * n,
            "validation": (1 + s**2) * n,
        },
    },
)
def predict_errors(draws: Draws):
    """The two errors of a machine that has learned a share of the noise by heart."""
    yield (draws.uniform(0.2, 0.4), 0.5)
    yield (draws.uniform(1.5, 3.0), draws.uniform(0.1, 0.4))
    yield (draws.uniform(0.2, 0.9), draws.uniform(0.6, 0.9))
    yield (0.3, 1.0)
    yield (0.3, 0.0)


def train(points: int, width: int, learning_rate: float, steps: int, *, seed: int, noise: float = 0.3, start=0.0):
    """Return the curves of one training on the wave, recorded every 10 steps; ``start`` is added to the answers."""
    from ..lessons.lesson_02 import fit, make_network, noisy_points

    network, training = make_network(width, seed=seed), noisy_points(points, seed=5000 + seed, noise=noise)
    held_out = noisy_points(400, seed=9000 + seed, noise=noise)
    network[-1].bias.data += start
    with torch.enable_grad():
        return fit(network, training, held_out, every=10, learning_rate=learning_rate, steps=steps)


def _exploding(seed: int):
    """Return the two curves, in units of the noise, of gradient descent with such long steps that they explode."""
    from ..lessons.lesson_02 import NOISE, error, make_network, noisy_points

    network, training = make_network(32, seed=seed), noisy_points(200, seed=5000 + seed)
    held_out, curves = noisy_points(400, seed=9000 + seed), ([], [])
    with torch.enable_grad():
        for _ in range(40):
            for curve, points in zip(curves, (training, held_out), strict=True):
                curve.append(error(network, points) / NOISE**2)
            network.zero_grad()
            (network(training[0]) - training[1]).square().mean().backward()
            for weight in network.parameters():
                weight.data -= 4.0 * weight.grad
    return curves


@functools.cache
def sick_and_healthy(seed: int):
    """Train anew and return [(diagnosis, training errors, validation errors, know_nothing, best_known)], shuffled.

    The errors of each are told in a unit of its own, so that no limit in numbers fits them all.
    """
    from ..lessons.lesson_02 import wave

    draws, found = Draws(seed), []
    cases = [*DIAGNOSES, "exploding", "noisy"]
    for index in torch.randperm(len(cases), generator=draws.generator).tolist():
        case, own = cases[index], Draws(100 * seed + index)  # however often one is trained, the others stay
        noise = {"underfitting": 0.05, "noisy": 0.6}.get(case, 0.3)  # 0.3 times knowing nothing is bad, or very good
        nothing = wave(torch.linspace(-1, 1, 1001)).var().item() / noise**2 + 1
        curves, unit = _clear_case(case, own, noise, nothing), own.choice([0.004, 0.05, 0.3, 4.0, 90.0])
        diagnosis = {"exploding": "not converging", "noisy": "generalising"}.get(case, case)
        found.append((diagnosis, *[[unit * error for error in curve] for curve in curves], unit * nothing, unit))
    return found


def _clear_case(case, draws: Draws, noise: float, nothing: float):
    """Return the curves of a training, in units of the noise, that leaves no doubt about its diagnosis."""
    if case == "exploding":
        return _exploding(draws.integer(0, 900))
    while True:
        run = train(**_settings(case, draws), seed=draws.integer(0, 900), noise=noise)
        training, validation = ([error / noise**2 for error in curve] for curve in (run.training, run.validation))
        for end in range(31, len(training) + 1):
            curves = training[:end], validation[:end]
            ends = [[median(curve[-count:]) for curve in curves] for count in (3, 5, 8, 10)]
            if all(_is_clear(case, *pair, nothing) for pair in ends) and _is_hard(case, curves[0]):
                return curves


def _is_clear(case, training: float, validation: float, nothing: float) -> bool:
    return {
        "not converging": not training < 0.95 * nothing,
        "underfitting": 2.6 < training < 0.38 * nothing and validation < 1.3 * training,
        "overfitting": training < 0.9 and validation > max(2.5, 3 * training),
        "generalising": training < 1.7 and validation < 1.5 * training,
        "noisy": training < 1.3 and validation < 1.4 * training,
    }[case]


def _is_hard(case, training: list[float]) -> bool:
    """Say whether the curve is level, as it must be, or its first or its last record alone would mislead."""
    last = training[-8:]
    return {
        "not converging": median(last) < 0.6 * training[0],
        "underfitting": max(last) < 1.3 * min(last),
        "generalising": last[-1] > 2.2,
    }.get(case, True)


def _settings(case, draws: Draws) -> dict:
    """Return the settings of a training that will probably end as told."""
    return {"steps": STEPS} | {
        "not converging": {"points": draws.integer(100, 300), "width": 32, "learning_rate": 15.0, "start": 20.0},
        "underfitting": {"points": draws.integer(250, 400), "width": 2, "learning_rate": 0.03, "steps": 400},
        "overfitting": {"points": draws.integer(8, 11), "width": draws.integer(40, 56), "learning_rate": 0.025},
        "generalising": {"points": 400, "width": draws.integer(24, 40), "learning_rate": 0.06, "steps": 600},
        "noisy": {"points": draws.integer(400, 500), "width": draws.integer(24, 40), "learning_rate": 0.015},
    }[case]


@check.effect
def diagnose(attempt, draws: Draws) -> str:
    """One of four words for the curves of a training."""
    curves = sick_and_healthy(draws.seed)
    for diagnosis, training, validation, know_nothing, best_known in curves:
        said = attempt(training, validation, know_nothing, best_known)
        if said not in DIAGNOSES:
            raise Wrong(f"return one of the four words {', '.join(map(repr, DIAGNOSES))}, not {str(said)[:40]!r}")
        if said != diagnosis:
            ends = [_last(curve) / best_known for curve in (training, validation)]
            raise Wrong(
                f"a training that is {diagnosis} was called {said}: its training ends around {ends[0]:.1f} times the "
                f"best known error, validation around {ends[1]:.1f} times, and knowing nothing costs "
                f"{know_nothing / best_known:.1f} times{_clue(diagnosis, training, best_known)}"
            )
    return f"all {len(curves)} trainings were diagnosed"


def _last(curve) -> float:
    return median(curve[-8:]) if math.isfinite(curve[-1]) else curve[-1]


def _clue(diagnosis, training, best_known) -> str:
    if not math.isfinite(training[-1]):
        return "; a comparison with nan is never true, so ask for it first"
    if diagnosis == "generalising" and training[-1] > 2 * best_known:
        return "; its very last record is a jump: go by the median of the last few, and measure it by the best known"
    return {
        "not converging": "; has it learned anything at all, compared with knowing nothing",
        "underfitting": "; it has learned something, but look at how well it does on its own training points",
        "overfitting": "; look at how much worse it does on what it was not trained on",
        "generalising": "; the best known error is all noise, and both errors are near it",
    }[diagnosis]


@functools.cache
def held_out_error(points: int, width: int, learning_rate: float, steps: int, seed: int) -> float:
    """Return the error of a training on unseen points, in units of the noise."""
    from ..lessons.lesson_02 import NOISE

    return median(train(points, width, learning_rate, steps, seed=seed).validation[-5:]) / NOISE**2


def patients(draws: Draws):
    """Return [(diagnosis, settings)] of four trainings."""
    base = {"points": draws.integer(300, 400), "width": draws.integer(24, 40), "learning_rate": 0.015, "steps": 400}
    return [
        ("overfitting", base | {"points": draws.integer(8, 10)}),
        ("underfitting", base | {"width": 1}),
        ("generalising", base),
        ("not converging", base | {"learning_rate": draws.uniform(10, 20)}),
    ]


@check.effect
def cure(attempt, draws: Draws) -> str:
    """Settings with one change that make a training generalise."""
    answers = [(diagnosis, settings, attempt(settings, diagnosis)) for diagnosis, settings in patients(draws)]
    for answer in answers:
        _check_remedy(*answer)
    for diagnosis, _, cured in answers:
        if diagnosis == "generalising":
            continue
        error = held_out_error(*[cured[name] for name in LIMITS], seed=1 + draws.seed)
        if not error < BAR:
            raise Wrong(
                f"the training that was {diagnosis} ran with {_listed(cured)}, and its error on unseen points is "
                f"{error:.1f} times the noise, where less than {BAR} is asked for: {_advice(diagnosis)}"
            )
    return f"every cured training came below {BAR} times the noise on unseen points"


def _check_remedy(diagnosis, settings, cured) -> None:
    if not isinstance(cured, dict) or set(cured) != set(settings):
        raise Wrong(f"return a dictionary with the keys {', '.join(settings)}, as you were given it")
    for name, (low, high) in LIMITS.items():
        kind = (int, float) if name == "learning_rate" else (int,)
        if type(cured[name]) not in kind or not low <= cured[name] <= high:
            raise Wrong(f"{name} must be a plain number from {low} to {high}, {'' if float in kind else 'whole, '}and "
                        f"is {str(cured[name])[:20]}")  # fmt: skip
    changed = [name for name in settings if cured[name] != settings[name]]
    if diagnosis == "generalising" and changed:
        raise Wrong(f"a training that generalises needs no cure, and you changed its {changed[0]}")
    if diagnosis != "generalising" and len(changed) != 1:
        raise Wrong(
            f"change exactly one setting, or you cannot say what cured it; for {diagnosis} you changed "
            f"{' and '.join(changed) or 'none'}"
        )


def _listed(settings) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _advice(diagnosis) -> str:
    return {
        "not converging": "the steps jump over every low place, so they must become much shorter, but not so short "
        "that the training does not arrive",
        "underfitting": "the network cannot bend often enough, and neither data nor time change that",
        "overfitting": "a few points can be learned by heart, and stopping early or a smaller network only softens "
        "that; what is missing is something to learn from",
    }[diagnosis]


def _disguised(pictures, draws: Draws):
    """Return the pictures mirrored, shifted or brightened, each with a little grain."""
    found = []
    for number, picture in enumerate(pictures):
        if number % 2:
            picture = picture.flip(-1)
        if number % 3 != 1:
            picture = picture.roll((draws.choice([-2, -1, 1, 2]), draws.choice([-2, -1, 1, 2])), dims=(-2, -1))
        if number % 4 > 1:
            picture = picture + draws.choice([-0.3, -0.2, 0.2, 0.3])
        found.append(picture + 0.03 * draws.normal(*picture.shape))
    return torch.stack(found)


def mixed_gallery(seed: int):
    """Return (pictures [40, 3, 24, 24], training [32, 3, 24, 24], which of the pictures are copies in disguise)."""
    from ..lessons.lesson_02_denoisers import half_pictures

    draws = Draws(seed)
    training = half_pictures("A", 128)[torch.randperm(128, generator=draws.generator)[:32]]
    new = half_pictures("fresh", 80)[torch.randperm(80, generator=draws.generator)[:20]]
    new = new + 0.03 * draws.normal(*new.shape)
    chosen = torch.randperm(32, generator=draws.generator)[:20]
    order = torch.randperm(40, generator=draws.generator)
    pictures = torch.cat([_disguised(training[chosen], draws), new])[order]
    return pictures, training, [index < 20 for index in order.tolist()]


@check.effect
def find_copies(attempt, draws: Draws) -> str:
    """Copies of training portraits, mirrored, shifted or brightened, told from new portraits."""
    pictures, training, truth = mixed_gallery(draws.seed)
    said = attempt(pictures, training)
    if isinstance(said, torch.Tensor):
        raise Wrong("return a list of True and False; .tolist() makes one of a tensor")
    if not isinstance(said, list) or len(said) != len(truth) or not all(type(item) is bool for item in said):
        raise Wrong(f"return a list with True or False for each of the {len(truth)} pictures")
    found = sum(s and t for s, t in zip(said, truth, strict=True)) / 20
    accused = sum(s and not t for s, t in zip(said, truth, strict=True)) / 20
    if accused > 0.1:
        raise Wrong(
            f"{accused:.0%} of the new portraits are called copies, where at most 10% are allowed "
            f"({found:.0%} of the copies are found): a copy, undone, is much nearer than the nearest other man"
        )
    if found < 0.9:
        raise Wrong(
            f"{found:.0%} of the copies are found, and 90% are asked for: a copy may be mirrored, shifted by up to 2 "
            "pixels up, down or sideways, brighter or darker, and more than one of these"
        )
    return "at least 9 of 10 copies found, at most 1 of 10 new portraits accused"
