"""Wrong answers to lab 04."""

import torch


def roots(kept):
    return kept.sqrt(), (1 - kept).sqrt()


def reading(epsilon=None, v_prediction=None, sample=None):
    def pred_original(model_output, noisy, alpha_prod_t, prediction_type):
        keep, add = roots(alpha_prod_t)
        rules = {
            "epsilon": epsilon or (lambda o, x, keep, add: (x - add * o) / keep),
            "v_prediction": v_prediction or (lambda o, x, keep, add: keep * x - add * o),
            "sample": sample or (lambda o, x, keep, add: o),
        }
        return rules[prediction_type](model_output, noisy, keep, add).to(noisy.dtype)

    return pred_original


def read_everything_as_noise(model_output, sample, alpha_prod_t, prediction_type):
    keep, add = roots(alpha_prod_t)
    return (sample - add * model_output) / keep


def read_misspelt(model_output, sample, alpha_prod_t, prediction_type):
    keep, add = roots(alpha_prod_t)
    if prediction_type == "v":
        return keep * sample - add * model_output
    if prediction_type == "sample":
        return model_output
    return (sample - add * model_output) / keep


def stepping(spread=None, rest=None, fresh=None):
    def ddim_step(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise):
        guess = (sample - (1 - alpha_prod_t).sqrt() * noise_pred) / alpha_prod_t.sqrt()
        variance = eta**2 * (1 - alpha_prod_t_prev) / (1 - alpha_prod_t) * (1 - alpha_prod_t / alpha_prod_t_prev)
        if spread:
            variance = spread(alpha_prod_t, alpha_prod_t_prev, eta)
        direction = rest(alpha_prod_t_prev, variance) if rest else (1 - alpha_prod_t_prev - variance).sqrt()
        sigma = fresh(variance) if fresh else variance.sqrt()
        return alpha_prod_t_prev.sqrt() * guess + direction * noise_pred + sigma * noise

    return ddim_step


def step_of_the_lesson(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise):
    guess = (sample - (1 - alpha_prod_t).sqrt() * noise_pred) / alpha_prod_t.sqrt()
    return alpha_prod_t_prev.sqrt() * guess + (1 - alpha_prod_t_prev).sqrt() * noise_pred


def step_of_ddpm(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise):
    alpha = alpha_prod_t / alpha_prod_t_prev
    mean = (sample - (1 - alpha) / (1 - alpha_prod_t).sqrt() * noise_pred) / alpha.sqrt()
    return mean + ((1 - alpha_prod_t_prev) / (1 - alpha_prod_t) * (1 - alpha)).sqrt() * noise


def step_scaled_for_the_start(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise):
    def rest(there, variance):
        return (1 - alpha_prod_t - variance).sqrt()

    return stepping(rest=rest)(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise)


def step_with_its_own_noise(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, noise):
    return stepping()(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, eta, torch.randn_like(sample))


def placing(formula):
    return lambda start, value, alpha_prod_start, alpha_prod_now: float(
        formula(start, value, alpha_prod_start, alpha_prod_now)
    )


def guessing(rows=None, distance=None, weigh=None, shrink=lambda a: a.sqrt(), noisy_too=lambda x, a: x):
    def best_guess_of(noisy, alpha_prod_t, data, labels, wanted):
        kept = data if rows == "all" else data[[wanted is None or label == wanted for label in labels]]
        difference = noisy_too(noisy, alpha_prod_t)[:, None] - shrink(alpha_prod_t) * kept
        distances = distance(difference) if distance else difference.square().sum(dim=2)
        exponents = -distances / (2 * (1 - alpha_prod_t))
        return (weigh(exponents) if weigh else exponents.softmax(dim=1)) @ kept

    return best_guess_of


def guess_with_small_weights(exponents):
    weights = exponents.exp()
    return weights / weights.sum(dim=1, keepdim=True)


def guess_the_likeliest(exponents):
    return torch.nn.functional.one_hot(exponents.argmax(dim=1), exponents.shape[1]).to(exponents)


def guess_that_needs_a_label(noisy, alpha_prod_t, data, labels, wanted):
    kept = data[[label == wanted for label in labels]]
    distances = (noisy[:, None] - alpha_prod_t.sqrt() * kept).square().sum(dim=2)
    return (-distances / (2 * (1 - alpha_prod_t))).softmax(dim=1) @ kept


def guess_by_part_of_the_label(noisy, alpha_prod_t, data, labels, wanted):
    kept = data if wanted is None else data[[wanted in label for label in labels]]
    return guessing(rows="all")(noisy, alpha_prod_t, kept, labels, wanted)


def guess_with_weights_set_to_zero(noisy, alpha_prod_t, data, labels, wanted):
    distances = (noisy[:, None] - alpha_prod_t.sqrt() * data).square().sum(dim=2)
    weights = (-distances / (2 * (1 - alpha_prod_t))).softmax(dim=1)
    for row, label in enumerate(labels):
        if wanted is not None and label != wanted:
            weights[:, row] = 0
    return weights @ data


def climbing(mix):
    def step_up(noise_pred, sample, alpha_prod_t, alpha_prod_t_next):
        guess = (sample - (1 - alpha_prod_t).sqrt() * noise_pred) / alpha_prod_t.sqrt()
        return mix(guess, noise_pred, sample, alpha_prod_t, alpha_prod_t_next)

    return step_up


def guess_by(same):
    def best_guess_of(noisy, alpha_prod_t, data, labels, wanted):
        rows = [number for number, label in enumerate(labels) if wanted is None or same(label, wanted)]
        return guessing()(noisy, alpha_prod_t, data[rows], ["x"] * len(rows), None)

    return best_guess_of


def place_by_a_loop(start, value, alpha_prod_start, alpha_prod_now):
    steps = 3
    here, sample = alpha_prod_start, start
    for number in range(1, steps + 1):
        there = alpha_prod_start + (alpha_prod_now - alpha_prod_start) * number / steps
        noise = (sample - here**0.5 * value) / (1 - here) ** 0.5
        sample = there**0.5 * value + (1 - there) ** 0.5 * noise
        here = there
    return sample


WRONG = {
    "pred_original": [
        ("kind of the prediction is ignored", read_everything_as_noise),
        ("divide by the root", reading(epsilon=lambda o, x, keep, add: x - add * o)),
        ("factors are the roots", reading(epsilon=lambda o, x, keep, add: (x - add**2 * o) / keep**2)),
        ("only its share", reading(epsilon=lambda o, x, keep, add: x - o)),
        ("for 'v_prediction', the factors", reading(v_prediction=lambda o, x, keep, add: keep**2 * x - add**2 * o)),
        ("signs are turned round", reading(v_prediction=lambda o, x, keep, add: add * o - keep * x)),
        ("for 'v_prediction', the two roots", reading(v_prediction=lambda o, x, keep, add: add * x - keep * o)),
        ("taken away, not added", reading(epsilon=lambda o, x, keep, add: (x + add * o) / keep)),
        ("for 'epsilon', the two roots are swapped", reading(epsilon=lambda o, x, keep, add: (x - keep * o) / add)),
        ("the sign before v", reading(v_prediction=lambda o, x, keep, add: keep * x + add * o)),
        ("that is the noise", reading(v_prediction=lambda o, x, keep, add: add * x + keep * o)),
        ("not finite", reading(v_prediction=lambda o, x, keep, add: (x - add * (keep * o + add * x)) / keep)),
        ("named the clean sample itself", reading(sample=lambda o, x, keep, add: x)),
        ("nothing is left to be divided", reading(sample=lambda o, x, keep, add: o / keep)),
        ("prediction_type = 'v_prediction'", read_misspelt),
    ],
    "ddim_step": [
        ("eta 0", step_of_the_lesson),
        ("eta 1, DDPM's", step_of_ddpm),
        ("takes the place of", stepping(rest=lambda there, variance: (1 - there).sqrt())),
        ("not sigma", stepping(rest=lambda there, variance: (1 - there - variance.sqrt()).sqrt())),
        ("not behind it", stepping(rest=lambda there, variance: (1 - there).sqrt() - variance.sqrt())),
        ("multiplied by sigma", stepping(fresh=lambda variance: variance)),
        ("stands squared", stepping(spread=lambda a, b, eta: eta * (1 - b) / (1 - a) * (1 - a / b))),
        ("last factor is 1 minus", stepping(spread=lambda a, b, eta: eta**2 * (1 - b) / (1 - a))),
        ("not their difference", stepping(spread=lambda a, b, eta: eta**2 * (1 - b) / (1 - a) * (b - a))),
        ("upside down", stepping(spread=lambda a, b, eta: eta**2 * (1 - a) / (1 - b) * (1 - a / b))),
        ("the first factor", stepping(spread=lambda a, b, eta: eta**2 * (1 - a / b))),
        ("where the step ends", step_scaled_for_the_start),
        ("not subtracted", stepping(fresh=lambda variance: -variance.sqrt())),
        ("fresh noise is missing", stepping(fresh=lambda variance: 0.0)),
        ("two places are swapped", lambda e, x, a, b, eta, z: stepping()(e, x, b, a, eta, z)),
        ("values differ", step_with_its_own_noise),
    ],
    "predict_place": [
        ("only where alpha-bar is 1", placing(lambda x, c, a, b: c)),
        ("what is left of the start", placing(lambda x, c, a, b: b**0.5 * c + (1 - b) ** 0.5 * x)),
        (
            "divided by the root of 1 - alpha-bar at the start",
            placing(lambda x, c, a, b: b**0.5 * c + (1 - b) ** 0.5 * (x - a**0.5 * c)),
        ),
        (
            "value shrinks",
            placing(lambda x, c, a, b: c + ((1 - b) / (1 - a)) ** 0.5 * (x - a**0.5 * c)),
        ),
        (
            "noise that is left",
            placing(lambda x, c, a, b: b**0.5 * c + (x - a**0.5 * c) / (1 - a) ** 0.5),
        ),
        ("take out its share", placing(lambda x, c, a, b: b**0.5 * c + ((1 - b) / (1 - a)) ** 0.5 * (x - c))),
        ("a straight line", placing(lambda x, c, a, b: ((1 - b) * x + (b - a) * c) / (1 - a))),
        (
            "start are swapped",
            placing(lambda x, c, a, b: a**0.5 * c + ((1 - a) / max(1 - b, 1e-9)) ** 0.5 * (x - b**0.5 * c)),
        ),
        ("expected a number, got a tensor", lambda x, c, a, b: torch.tensor(c)),
        ("without a loop", place_by_a_loop),
    ],
    "best_guess_of": [
        ("labels are ignored", guessing(rows="all")),
        ("with wanted None", lambda x, a, d, la, w: guessing()(x, a, d, la, w) if w else torch.zeros_like(x)),
        ("all rows count", guess_that_needs_a_label),
        ("not their mean", guessing(distance=lambda difference: difference.square().mean(dim=2))),
        ("square the distances", guessing(distance=lambda difference: difference.norm(dim=2))),
        ("data shrinks with the root", guessing(shrink=lambda a: a)),
        ("before the two are compared", guessing(shrink=lambda a: 1.0)),
        ("is in 'woman' as well", guess_by_part_of_the_label),
        ("contained in 'woman'", guess_by(lambda label, wanted: label in wanted)),
        ("begins as 'man' does", guess_by(lambda label, wanted: label.startswith(wanted))),
        ("'man' begins as", guess_by(lambda label, wanted: wanted.startswith(label))),
        ("first letter", guess_by(lambda label, wanted: label[0] == wanted[0])),
        ("'Woman' is another label", guess_by(lambda label, wanted: label.lower() == wanted.lower())),
        ("no longer add up to 1", guess_with_weights_set_to_zero),
        ("the likelier ones must weigh more", guessing(weigh=lambda e: torch.full_like(e, 1 / e.shape[1]))),
        ("factor 2", guessing(weigh=lambda exponents: (2 * exponents).softmax(dim=1))),
        ("not the noisy rows", guessing(noisy_too=lambda x, a: x * a.sqrt())),
        ("each noisy row", guessing(weigh=lambda exponents: exponents.softmax(dim=0))),
        ("the likeliest row", guessing(weigh=guess_the_likeliest)),
        ("not finite", guessing(weigh=guess_with_small_weights)),
    ],
    "step_up": [
        ("shape [5]", lambda noise_pred, sample, here, there: sample.mean(dim=(1, 2, 3))),
        ("as a tensor", lambda noise_pred, sample, here, there: sample.tolist()),
        ("infinite", climbing(lambda g, e, x, a, b: x + ((1 - b) / (1 - a)).sqrt() * e)),
        ("yours has 2", climbing(lambda g, e, x, a, b: x + (((1 - b) / b).sqrt() - ((1 - a) / a).sqrt()) * e)),
        ("should be found", climbing(lambda g, e, x, a, b: x + e)),
        ("should be found", climbing(lambda g, e, x, a, b: b.sqrt() * g + (1 - a).sqrt() * e)),
        ("should be found", climbing(lambda g, e, x, a, b: b * g + (1 - b) * e)),
        ("should be found", climbing(lambda g, e, x, a, b: (b / a).sqrt() * x + (1 - b / a).sqrt() * e)),
        ("are asked for", climbing(lambda g, e, x, a, b: x)),
        ("not 0.5 **", climbing(lambda g, e, x, a, b: b.sqrt() * g + 0.5 ** (1 - b) * e)),
        ("not clamped", climbing(lambda g, e, x, a, b: b.sqrt() * g.clamp(-1, 1) + (1 - b).sqrt() * e)),
        ("but not quite", climbing(lambda g, e, x, a, b: b.sqrt() * 0.98 * g + (1 - b).sqrt() * e)),
        ("one by one", climbing(lambda g, e, x, a, b: b.sqrt() * g + 0.98 * (1 - b).sqrt() * e)),
        ("no fresh noise", climbing(lambda g, e, x, a, b: b.sqrt() * g + (1 - b).sqrt() * (e + torch.randn_like(x)))),
        ("next place", climbing(lambda g, e, x, a, b: a.sqrt() * g + (1 - a).sqrt() * e)),
        ("one that DDIM undoes", climbing(lambda g, e, x, a, b: b.sqrt() * g + (1 - b).sqrt() * torch.randn_like(x))),
        (
            "standard deviation 1 should be found",
            climbing(lambda g, e, x, a, b: (b / a).sqrt() * x + (1 - b / a).sqrt() * torch.randn_like(x)),
        ),
    ],
}
