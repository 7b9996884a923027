"""Checks of lab 01: gradients, optimizers and learning rates."""

import functools
import math

import torch

from .exercise import Draws, Lab
from .outcome import Wrong
from .plain import numbers_in
from .without import AUTOGRAD, LOOP

check = Lab("01", "Walk downhill")

EYE_STEPS, EYE_SHARE = 38, 0.4


def gradient_by_autograd(weight, bias, noisy, noise):
    """Return the gradient of mean((weight * noisy + bias - noise)^2) for weight and bias."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    with torch.enable_grad():
        loss = (weight * noisy + bias - noise).square().mean()
        return torch.autograd.grad(loss, (weight, bias))


def _slopes(weight, bias, noisy, noise, *, error=None, factor=2, average=torch.mean):
    error = weight * noisy + bias - noise if error is None else error
    return average(factor * error * noisy), average(factor * error)


@check.exercise(
    gradient_by_autograd,
    without=(AUTOGRAD,),
    mistakes={
        "both gradients point the wrong way: the error is the guess minus the noise, not the noise minus the guess": (
            lambda w, b, x, n: _slopes(w, b, x, n, factor=-2)
        ),
        "the factor 2 from the square is missing": lambda w, b, x, n: _slopes(w, b, x, n, factor=1),
        "the factor 2 from the square is missing in the gradient for the bias": lambda w, b, x, n: (
            _slopes(w, b, x, n)[0],
            _slopes(w, b, x, n, factor=1)[1],
        ),
        "take the mean over all values: len() counts the rows alone": lambda w, b, x, n: _slopes(
            w, b, x, n, average=lambda slopes: slopes.sum() / len(slopes)
        ),
        "the error is multiplied by noisy value by value, and averaged after that": lambda w, b, x, n: (
            _slopes(w, b, x, n)[1] * x.mean(),
            _slopes(w, b, x, n)[1],
        ),
        "take the mean over the values, not the sum": lambda w, b, x, n: _slopes(w, b, x, n, average=torch.sum),
        "the bias is missing from the guess: the error is weight * noisy + bias - noise": lambda w, b, x, n: _slopes(
            w, b, x, n, error=w * x - n
        ),
        "the bias is added to the guess without a factor, so its gradient has no factor noisy": lambda w, b, x, n: (
            (_slopes(w, b, x, n)[0],) * 2
        ),
        "the gradient for the weight lacks the factor noisy": lambda w, b, x, n: (_slopes(w, b, x, n)[1],) * 2,
        "the two gradients are swapped: first the weight's, then the bias's": lambda w, b, x, n: _slopes(w, b, x, n)[
            ::-1
        ],
    },
)
def gradient_by_hand(draws: Draws):
    """The gradient of the loss for a weight and a bias, without autograd."""
    for shape in [(7,), (4, 5), (2, 3, 8), (1,)]:
        yield (draws.normal(), draws.normal(), draws.normal(*shape), draws.normal(*shape))
    double = torch.float64
    yield tuple(draws.normal(*shape, dtype=double) for shape in [(), (), (6, 6), (6, 6)])


def distance_by_stepping(start, learning_rate, curvature, steps):
    """Walk down curvature / 2 * x^2 step by step and return the last place."""
    place = start
    for _ in range(steps):
        place = place - learning_rate * curvature * place
    return place


@check.exercise(
    distance_by_stepping,
    without=(LOOP,),
    mistakes={
        "that is the distance after one step: each of the steps multiplies it once more": lambda x, r, c, n: (
            x * (1 - r * c)
        ),
        "the steps multiply the distance, they do not subtract the same piece each time": lambda x, r, c, n: (
            x * (1 - n * r * c)
        ),
        "the sign is wrong: a step goes against the slope, so the factor is 1 - learning_rate * curvature": (
            lambda x, r, c, n: x * (1 + r * c) ** n
        ),
        "the distance keeps its sign: past the lowest point it is on the other side": lambda x, r, c, n: abs(
            x * (1 - r * c) ** n
        ),
        "the slope of curvature / 2 * x^2 is curvature times x, not half of that": lambda x, r, c, n: (
            x * (1 - r * c / 2) ** n
        ),
        "the slope of curvature / 2 * x^2 is curvature times x, not twice that": lambda x, r, c, n: (
            x * (1 - 2 * r * c) ** n
        ),
        "that is what is left of a distance of 1: multiply it by start": lambda x, r, c, n: (1 - r * c) ** n,
        "past the lowest point the sign changes with every step; before it, it does not": lambda x, r, c, n: (
            x * (-1) ** n * abs(1 - r * c) ** n
        ),
        "one step too many": lambda x, r, c, n: x * (1 - r * c) ** (n + 1),
        "one step too few": lambda x, r, c, n: x * (1 - r * c) ** (n - 1),
        "the curvature belongs into the factor: 1 - learning_rate * curvature": lambda x, r, c, n: x * (1 - r) ** n,
    },
)
def predict_distance(draws: Draws):
    """How far from the bottom of a parabola, after so many steps."""
    yield (draws.uniform(0.5, 2), draws.uniform(0.1, 0.4), draws.uniform(0.5, 1.5), 4)
    yield (draws.uniform(-2, -0.5), draws.uniform(0.9, 1.3), draws.uniform(1.1, 1.4), 7)
    yield (draws.uniform(0.5, 2), draws.uniform(0.1, 0.4), draws.uniform(0.5, 1.5), 0)
    yield (1.0, 2.0, 1.2, 2 * draws.integer(3, 5) + 1)
    yield (draws.uniform(0.5, 2), draws.uniform(0.1, 0.4), draws.uniform(0.5, 1.5), 2 * draws.integer(1, 3) + 1)
    yield (draws.uniform(-2, -0.5), draws.uniform(0.9, 1.3), draws.uniform(1.1, 1.4), 2 * draws.integer(1, 3))


def path_of_torch(gradients, weight, learning_rate, momentum):
    """Return the weights after each gradient, moved by torch.optim.SGD."""
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.SGD([parameter], lr=learning_rate, momentum=momentum)
    path = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return path


def _momentum(gradients, weight, rate, momentum, *, keep=True, share=1.0, nesterov=False, sign=-1, late=False):
    velocity, path = torch.zeros_like(weight), []
    for gradient in gradients:
        old = velocity
        velocity = momentum * (velocity if keep else 0) + share * gradient
        move = gradient + momentum * velocity if nesterov else old if late else velocity
        weight = weight + sign * rate * move
        path.append(weight)
    return path


@check.exercise(
    path_of_torch,
    mistakes={
        "without momentum: the velocity of the step before must be kept": lambda g, w, r, m: _momentum(
            g, w, r, m, keep=False
        ),
        "the weight moves uphill: subtract learning_rate * velocity": lambda g, w, r, m: _momentum(g, w, r, m, sign=1),
        "torch adds the whole gradient to the velocity, not (1 - momentum) of it": lambda g, w, r, m: _momentum(
            g, w, r, m, share=1 - m
        ),
        "move by the new velocity, not by that of the step before": lambda g, w, r, m: _momentum(g, w, r, m, late=True),
        "that is Nesterov's momentum; here the weight moves by the velocity alone": lambda g, w, r, m: _momentum(
            g, w, r, m, nesterov=True
        ),
        "the list holds one tensor many times, its last value: make a new tensor in each step": lambda g, w, r, m: (
            _momentum(g, w, r, m)[-1:] * len(g)
        ),
        "return the weight after each gradient, without the weight at the start": lambda g, w, r, m: [
            w,
            *_momentum(g, w, r, m),
        ],
    },
)
def momentum_path(draws: Draws):
    """Gradient descent with momentum, against torch.optim.SGD."""
    for shape, count in [((3,), 4), ((2, 2), 6), ((), 3), ((5,), 1)]:
        gradients = [draws.normal(*shape) for _ in range(count)]
        yield (gradients, draws.normal(*shape), draws.uniform(0.05, 0.5), draws.uniform(0.5, 0.95))
    yield ([draws.normal(3) for _ in range(3)], draws.normal(3), draws.uniform(0.05, 0.5), 0.0)
    double = [draws.normal(2, 3, dtype=torch.float64) for _ in range(4)]
    yield (double[1:], double[0], draws.uniform(0.05, 0.5), draws.uniform(0.5, 0.95))


def rate_of_diffusers(step, steps, warmup, highest):
    """Return the rate that diffusers' own schedule sets at ``step``."""
    from diffusers.optimization import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=highest)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    return highest * schedule.lr_lambdas[0](step)


def _rate(step, steps, warmup, highest, *, shift=0, start=None, length=None, wave=None):
    if step < warmup:
        return highest * (step + shift) / warmup
    part = (step - (warmup if start is None else start)) / (length or steps - warmup)
    return highest * (wave or (lambda x: (1 + math.cos(math.pi * x)) / 2))(part)


@check.exercise(
    rate_of_diffusers,
    mistakes={
        "the warm-up starts at a rate of 0: step 0 is not yet one step up": lambda *a: _rate(*a, shift=1),
        "the warm-up is missing": lambda step, steps, warmup, highest: _rate(step, steps, 0, highest),
        "the cosine must start where the warm-up ends: count from there, and over the steps that are left": (
            lambda step, steps, warmup, highest: _rate(step, steps, warmup, highest, start=0, length=steps)
        ),
        "the cosine has only steps - warmup steps to fall": lambda step, steps, warmup, highest: _rate(
            step, steps, warmup, highest, length=steps
        ),
        "the cosine itself goes from 1 to -1; half of 1 + cosine goes from 1 to 0": lambda *a: _rate(
            *a, wave=lambda x: math.cos(math.pi * x)
        ),
        "the fall takes half a wave of the cosine: pi, not 2 * pi": lambda *a: _rate(
            *a, wave=lambda x: (1 + math.cos(2 * math.pi * x)) / 2
        ),
        "half a wave, not a quarter: it leaves the top as gently as it reaches 0": lambda *a: _rate(
            *a, wave=lambda x: math.cos(math.pi / 2 * x)
        ),
        "the cosine's half wave ends at pi: the part of the way is multiplied by it": lambda *a: _rate(
            *a, wave=lambda x: (1 + math.cos(x)) / 2
        ),
        "1 + cosine goes from 2 to 0: halve it": lambda *a: _rate(*a, wave=lambda x: 1 + math.cos(math.pi * x)),
        "the fall is a straight line, not a cosine": lambda *a: _rate(*a, wave=lambda x: 1 - x),
    },
)
def warmup_cosine(draws: Draws):
    """A learning rate that warms up and then falls along a cosine."""
    highest = draws.uniform(0.01, 1)
    for step in [0, 1, 9, 10, 11, 55, 99, 100]:
        yield (step, 100, 10, highest)
    steps, warmup = draws.integer(40, 90), draws.integer(3, 20)
    for step in [0, warmup - 1, warmup, draws.integer(warmup, steps), steps]:
        yield (step, steps, warmup, highest)
    for step in (0, 20, 50):
        yield (step, 50, 0, highest)


@functools.cache
def _search():
    from ..lessons.lesson_01 import EyeSearch
    from ..portraits import plan_portrait

    return EyeSearch(plan_portrait(256))


def share_of_finds(rates) -> float:
    """Return from which share of 101 places gradient descent with these rates finds the eyes in the lesson's row."""
    from ..lessons.lesson_01 import descend

    starts = torch.linspace(0, 1, 101, dtype=torch.float64)
    last = descend(_search().loss, starts, rates)[-1]
    return ((last - _search().eyes[0]).abs() < 0.01).double().mean().item()


@check.effect
def find_the_eyes(attempt, draws: Draws) -> str:
    """A row of learning rates that finds the eyes from many places."""
    rates, fewer = numbers_in(attempt(EYE_STEPS)), numbers_in(attempt(EYE_STEPS - 8))
    if rates is None:
        raise Wrong("return a list of plain numbers, one rate for each step")
    if len(rates) != EYE_STEPS:
        raise Wrong(f"return {EYE_STEPS} rates, one for each step; you returned {len(rates)}")
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
        raise Wrong("a learning rate is a finite number of at least 0")
    if fewer is None or len(fewer) != EYE_STEPS - 8:
        raise Wrong(f"return as many rates as there are steps, also for {EYE_STEPS - 8} steps")
    if all(math.isclose(rate, 0.12 * 0.9**step, rel_tol=0.1) for step, rate in enumerate(rates)):
        raise Wrong("that is the lesson's second falling rate: find a row of your own, of another height or shape")
    share = share_of_finds(rates)
    if share < EYE_SHARE:
        raise Wrong(
            f"the walk finds the eyes from {share:.0%} of the places, and {EYE_SHARE:.0%} are asked for: "
            + _advice(rates)
        )
    return f"found from {share:.0%} of the places"


def _advice(rates) -> str:
    if max(rates) < 0.09:
        return "no step is long enough to leave a dent, so start with a larger rate"
    if rates[0] < rates[-1]:
        return "the rate grows; large steps are for the beginning, small ones for the end"
    if rates[-1] > 0.02:
        return "the last steps are not short enough to settle, so let the rate fall further"
    if max(rates) > 0.4:
        return "the first steps lead out of the picture, so start with a smaller rate"
    if sum(rate > 0.04 for rate in rates) < 8:
        return "the rate falls too fast: only its first few steps are long enough to leave a dent"
    return "the rate falls too slowly, too suddenly or from the wrong height; try another start or another fall"
