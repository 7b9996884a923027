"""Wrong answers to lab 01."""

import math

import torch


def gradient_with_the_error_turned_round(weight, bias, noisy, noise):
    error = noise - (weight * noisy + bias)
    return (2 * error * noisy).mean(), (2 * error).mean()


def gradient_without_the_two(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return (error * noisy).mean(), error.mean()


def gradient_summed(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return (2 * error * noisy).sum(), (2 * error).sum()


def gradient_that_forgets_the_bias(weight, bias, noisy, noise):
    error = weight * noisy - noise
    return (2 * error * noisy).mean(), (2 * error).mean()


def gradient_with_noisy_twice(weight, bias, noisy, noise):
    slope = (2 * (weight * noisy + bias - noise) * noisy).mean()
    return slope, slope


def gradient_without_noisy(weight, bias, noisy, noise):
    slope = (2 * (weight * noisy + bias - noise)).mean()
    return slope, slope


def gradient_by_autograd(weight, bias, noisy, noise):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    return torch.autograd.grad((weight * noisy + bias - noise).square().mean(), (weight, bias))


def gradient_by_backward(weight, bias, noisy, noise):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    (weight * noisy + bias - noise).square().mean().backward()
    return weight.grad, bias.grad


def gradient_swapped(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return 2 * error.mean(), 2 * (error * noisy).mean()


def gradient_not_averaged(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return 2 * error * noisy, 2 * error


def gradient_as_floats(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return (2 * error * noisy).mean().item(), (2 * error).mean().item()


def gradient_with_half_for_the_bias(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return (2 * error * noisy).mean(), error.mean()


def gradient_by_rows(weight, bias, noisy, noise):
    error = weight * noisy + bias - noise
    return (2 * error * noisy).sum() / len(noisy), (2 * error).sum() / len(noisy)


def gradient_of_means(weight, bias, noisy, noise):
    of_bias = (2 * (weight * noisy + bias - noise)).mean()
    return of_bias * noisy.mean(), of_bias


def gradient_in_place(weight, bias, noisy, noise):
    noisy *= 2
    return (noisy * (weight * noisy / 2 + bias - noise)).mean(), 2 * (weight * noisy / 2 + bias - noise).mean()


def stepping(factor_of, count_of=lambda steps: steps):
    def predict_distance(start, learning_rate, curvature, steps):
        x = start
        for _ in range(count_of(steps)):
            x = factor_of(x, learning_rate, curvature)
        return x

    return predict_distance


def path_without_memory(gradients, weight, learning_rate, momentum):
    path = []
    for gradient in gradients:
        weight = weight - learning_rate * gradient
        path.append(weight)
    return path


def momentum_with(move):
    def momentum_path(gradients, weight, learning_rate, momentum):
        velocity, path = torch.zeros_like(weight), []
        for gradient in gradients:
            velocity, weight = move(velocity, gradient, weight, learning_rate, momentum)
            path.append(weight)
        return path

    return momentum_path


def average_of_gradients(velocity, gradient, weight, rate, momentum):
    velocity = momentum * velocity + (1 - momentum) * gradient
    return velocity, weight - rate * velocity


def uphill(velocity, gradient, weight, rate, momentum):
    velocity = momentum * velocity + gradient
    return velocity, weight + rate * velocity


def weight_first(velocity, gradient, weight, rate, momentum):
    weight = weight - rate * velocity
    return momentum * velocity + gradient, weight


def nesterov(velocity, gradient, weight, rate, momentum):
    velocity = momentum * velocity + gradient
    return velocity, weight - rate * (gradient + momentum * velocity)


def momentum_in_place(gradients, weight, learning_rate, momentum):
    velocity = torch.zeros_like(weight)
    path = []
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight -= learning_rate * velocity
        path.append(weight)
    return path


def momentum_in_one_tensor(gradients, weight, learning_rate, momentum):
    weight, velocity, path = weight.clone(), torch.zeros_like(weight), []
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight -= learning_rate * velocity
        path.append(weight)
    return path


def momentum_in_single_precision(gradients, weight, learning_rate, momentum):
    weight, velocity, path = weight.float(), 0, []
    for gradient in gradients:
        velocity = momentum * velocity + gradient.float()
        weight = weight - learning_rate * velocity
        path.append(weight)
    return path


def momentum_with_the_start(gradients, weight, learning_rate, momentum):
    return [
        weight,
        *momentum_with(lambda v, g, w, r, m: (m * v + g, w - r * (m * v + g)))(
            gradients, weight, learning_rate, momentum
        ),
    ]


def schedule_without_warmup(step, steps, warmup, highest):
    return highest * 0.5 * (1 + math.cos(math.pi * step / steps))


def schedule_that_starts_early(step, steps, warmup, highest):
    if step < warmup:
        return highest * (step + 1) / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def schedule_over_all_steps(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * step / steps))


def schedule_too_slow(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / steps))


def schedule_below_zero(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * math.cos(math.pi * (step - warmup) / (steps - warmup))


def schedule_twice_as_high(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def schedule_on_a_line(step, steps, warmup, highest):
    return highest * (step / warmup if step < warmup else (steps - step) / (steps - warmup))


def schedule_with_a_wave(wave):
    def warmup_cosine(step, steps, warmup, highest):
        if step < warmup:
            return highest * step / warmup
        return highest * wave((step - warmup) / (steps - warmup))

    return warmup_cosine


def schedule_dividing_by_zero(step, steps, warmup, highest):
    up = step / warmup
    return highest * min(up, 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / (steps - warmup))))


WRONG = {
    "gradient_by_hand": [
        ("without autograd", gradient_by_autograd),
        ("without autograd", gradient_by_backward),
        ("wrong way", gradient_with_the_error_turned_round),
        ("factor 2", gradient_without_the_two),
        ("mean over the values", gradient_summed),
        ("bias is missing", gradient_that_forgets_the_bias),
        ("bias is added", gradient_with_noisy_twice),
        ("lacks the factor noisy", gradient_without_noisy),
        ("missing in the gradient for the bias", gradient_with_half_for_the_bias),
        ("rows alone", gradient_by_rows),
        ("averaged after that", gradient_of_means),
        ("swapped", gradient_swapped),
        ("expected the shape []", gradient_not_averaged),
        ("leave out .item()", gradient_as_floats),
        ("in place", gradient_in_place),
    ],
    "predict_distance": [
        ("does not", lambda x, rate, bend, n: (-1) ** n * x * abs(1 - rate * bend) ** n),
        ("without a loop", stepping(lambda x, rate, bend: x - rate * bend * x)),
        ("after one step", stepping(lambda x, r, c: x - r * c * x, lambda steps: 1)),
        (
            "the same piece",
            lambda start, learning_rate, curvature, steps: start - steps * learning_rate * curvature * start,
        ),
        ("sign is wrong", stepping(lambda x, r, c: x + r * c * x)),
        ("keeps its sign", lambda *given: abs(stepping(lambda x, r, c: x - r * c * x)(*given))),
        ("not half of that", stepping(lambda x, r, c: x - r * c / 2 * x)),
        ("not twice that", stepping(lambda x, r, c: x - r * 2 * c * x)),
        ("multiply it by start", lambda start, r, c, n: (1 - r * c) ** n),
        ("expected", lambda start, r, c, n: start * math.exp(-r * c * n)),
        ("one step too many", stepping(lambda x, r, c: x - r * c * x, lambda steps: steps + 1)),
        ("one step too few", lambda s, r, c, n: s * (1 - r * c) ** (n - 1)),
        ("curvature belongs", stepping(lambda x, r, c: x - r * x)),
        ("expected a number, got a tensor", lambda s, r, c, n: torch.tensor(s * (1 - r * c) ** n)),
    ],
    "momentum_path": [
        ("without momentum", path_without_memory),
        ("uphill", momentum_with(uphill)),
        ("not (1 - momentum)", momentum_with(average_of_gradients)),
        ("not by that of the step before", momentum_with(weight_first)),
        ("Nesterov", momentum_with(nesterov)),
        ("one tensor many times", momentum_in_one_tensor),
        ("expected values of torch.float64", momentum_in_single_precision),
        ("without the weight at the start", momentum_with_the_start),
        ("in place", momentum_in_place),
    ],
    "warmup_cosine": [
        ("warm-up is missing", schedule_without_warmup),
        ("rate of 0", schedule_that_starts_early),
        ("start where the warm-up ends", schedule_over_all_steps),
        ("only steps - warmup", schedule_too_slow),
        ("from 1 to -1", schedule_below_zero),
        ("halve it", schedule_twice_as_high),
        ("not a quarter", schedule_with_a_wave(lambda part: math.sin(math.pi / 2 * (1 - part)))),
        ("ends at pi", schedule_with_a_wave(lambda part: (1 + math.cos(part)) / 2)),
        ("straight line", schedule_on_a_line),
        ("ZeroDivisionError", schedule_dividing_by_zero),
    ],
    "find_the_eyes": [
        ("long enough to leave", lambda steps: [0.002] * steps),
        ("short enough to settle", lambda steps: [0.12] * steps),
        ("the rate grows", lambda steps: [0.12 * (step + 1) / steps for step in range(steps)]),
        ("too fast", lambda steps: [0.12 * 0.8**step for step in range(steps)]),
        ("out of the picture", lambda steps: [0.6 * (1 - step / steps) for step in range(steps)]),
        ("too suddenly", lambda steps: [0.12] * (steps // 2) + [0.005] * (steps - steps // 2)),
        ("second falling rate", lambda steps: [0.12 * 0.9**step for step in range(steps)]),
        ("also for 30 steps", lambda steps: [0.12 * 0.9**step for step in range(38)]),
        ("you returned 10", lambda steps: [0.1] * 10),
        ("plain numbers", lambda steps: torch.full((steps, 1), 0.1)),
        ("short enough to settle", lambda steps: torch.full((steps,), 0.1)),
        ("second falling rate", lambda steps: [0.1215 * 0.9**step for step in range(steps)]),
        ("second falling rate", lambda steps: [0.115 * 0.9**step for step in range(steps)]),
        ("finite number", lambda steps: [-0.1] * steps),
    ],
}
