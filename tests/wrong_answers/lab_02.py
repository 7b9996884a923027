"""Wrong answers to lab 02."""

import math
from statistics import median

import torch

from sdcourse.lessons.lesson_02_denoisers import distance


def stop_by_hindsight(validation_errors, patience, min_drop):
    best, kept = math.inf, 0
    for step, error in enumerate(validation_errors):
        if error < best - min_drop:
            best, kept = error, step
        if step - kept >= patience:
            break
    numbers = [math.inf if math.isnan(error) else error for error in validation_errors]
    return numbers.index(min(numbers)), step


def stop_at_the_first_rise(validation_errors, patience, min_drop):
    best, kept = math.inf, 0
    for step, error in enumerate(validation_errors):
        if error < best - min_drop:
            best, kept = error, step
        else:
            return kept, step
    return kept, step


def stopping(better=lambda error, best, min_drop: error < best - min_drop, done=lambda gap, patience: gap >= patience):
    def early_stop(validation_errors, patience, min_drop):
        best, kept = math.inf, 0
        for step, error in enumerate(validation_errors):
            if better(error, best, min_drop):
                best, kept = error, step
            if done(step - kept, patience):
                break
        return kept, step

    return early_stop


def stop_after_bad_steps_in_all(validation_errors, patience, min_drop):
    best, kept, bad = math.inf, 0, 0
    for step, error in enumerate(validation_errors):
        if error < best - min_drop:
            best, kept = error, step
        else:
            bad += 1
        if bad >= patience:
            break
    return kept, step


def stop_by_the_step_before(validation_errors, patience, min_drop):
    kept = 0
    for step in range(1, len(validation_errors)):
        if validation_errors[step] < validation_errors[step - 1] - min_drop:
            kept = step
        if step - kept >= patience:
            break
    return kept, step


def stop_from(start):
    def early_stop(validation_errors, patience, min_drop):
        best, kept = start(validation_errors), 0
        for step, error in enumerate(validation_errors):
            if error < best - min_drop:
                best, kept = error, step
            if step - kept >= patience:
                break
        return kept, step

    return early_stop


def stop_with_a_creeping_best(validation_errors, patience, min_drop):
    best, kept = math.inf, 0
    for step, error in enumerate(validation_errors):
        if error < best - min_drop:
            kept = step
        best = min(best, error)
        if step - kept >= patience:
            break
    return kept, step


def both(training, validation):
    return lambda noise, share: {"training": training(noise, share), "validation": validation(noise, share)}


def left(noise, share):
    return (1 - share) ** 2 * noise**2


def grown(noise, share):
    return (1 + share**2) * noise**2


def diagnosing(learned=0.8, near=2.0, apart=2.0, end=lambda curve: median(curve[-8:]), nan="not converging"):
    def diagnose(training, validation, know_nothing, best_known):
        train, held_out = end(training), end(validation)
        if math.isnan(train):
            return nan
        if train > learned * know_nothing:
            return "not converging"
        if train > near * best_known:
            return "underfitting"
        return "overfitting" if held_out > apart * train else "generalising"

    return diagnose


def diagnose_by_the_lessons_numbers(training, validation, know_nothing, best_known):
    if not training[-1] < 0.42:
        return "not converging"
    if training[-1] > 0.18:
        return "underfitting"
    return "overfitting" if validation[-1] > 2 * training[-1] else "generalising"


def diagnose_by_validation_alone(training, validation, know_nothing, best_known):
    end = validation[-1]
    if not end < 10 * know_nothing:
        return "not converging"
    return "underfitting" if end > 2 * best_known else "generalising"


def diagnose_without_best_known(training, validation, know_nothing, best_known):
    end = median(training[-8:])
    if not end < 0.8 * know_nothing:
        return "not converging"
    if end > 0.3 * know_nothing:
        return "underfitting"
    return "overfitting" if median(validation[-8:]) > 2 * end else "generalising"


def diagnose_by_the_first_record(training, validation, know_nothing, best_known):
    return diagnosing()(training, validation, training[0], best_known)


def always(word):
    return lambda training, validation, know_nothing, best_known: word


def curing(**remedies):
    known = {"not converging": {"learning_rate": 0.01}, "underfitting": {"width": 32}, "overfitting": {"points": 400}}
    known |= {name.replace("_", " "): change for name, change in remedies.items()}
    return lambda settings, diagnosis: settings | known.get(diagnosis, {})


def finding(limit=0.04, mirror=True, reach=2, centre=True):
    def find_copies(pictures, training):
        turned = torch.cat([training, training.flip(3)]) if mirror else training
        places = range(-reach, reach + 1)
        disguises = torch.cat([turned.roll((down, right), dims=(2, 3)) for down in places for right in places])
        if centre:
            disguises = disguises - disguises.mean(dim=(1, 2, 3), keepdim=True)
            pictures = pictures - pictures.mean(dim=(1, 2, 3), keepdim=True)
        return [bool(distance(picture[None], disguises).min() < limit) for picture in pictures]

    return find_copies


def find_as_tensor(pictures, training):
    return torch.cdist(pictures.flatten(1), training.flatten(1)).min(dim=1).values < 1


WRONG = {
    "early_stop": [
        ("never saw its end", stop_by_hindsight),
        ("without patience", stop_at_the_first_rise),
        ("not the last one", lambda e, p, m: (stopping()(e, p, m)[1], stopping()(e, p, m)[1])),
        ("less than min_drop", stopping(better=lambda error, best, min_drop: error < best)),
        ("too patient", stopping(done=lambda gap, patience: gap > patience)),
        ("too impatient", stopping(done=lambda gap, patience: gap >= patience - 1)),
        ("count the steps from 0", lambda *given: tuple(step + 1 for step in stopping()(*given))),
        ("as low as the best", stopping(better=lambda error, best, min_drop: error <= best - min_drop)),
        ("starts the waiting again", stop_after_bad_steps_in_all),
        ("not with the step before", stop_by_the_step_before),
        ("other way round", lambda *given: tuple(reversed(stopping()(*given)))),
        ("errors may be above 1", stop_from(lambda errors: 1.0)),
        ("the first error itself may be nan", stop_from(lambda errors: errors[0])),
        ("small falls in between", stop_with_a_creeping_best),
        ("expected a list or tuple of 2, got a number", lambda *given: stopping()(*given)[0]),
        ("item 0: expected 4, got 8", stopping(better=lambda error, best, min_drop: not error >= best - min_drop)),
    ],
    "predict_errors": [
        ("of no use on new noise", both(left, lambda noise, share: noise**2)),
        ("by its variances", both(left, lambda noise, share: (noise + share * noise) ** 2)),
        ("nothing of it can be taken away", both(left, lambda noise, share: noise**2 - (share * noise) ** 2)),
        ("on both sides", both(lambda noise, share: noise**2 - (share * noise) ** 2, grown)),
        ("swapped", both(grown, left)),
        ("take no root", both(lambda noise, share: left(noise, share) ** 0.5, lambda n, s: grown(n, s) ** 0.5)),
        ("the share counts", both(lambda noise, share: 0.0, lambda noise, share: 2 * noise**2)),
        ("left on a training point is 1 - share", both(lambda noise, share: (share * noise) ** 2, grown)),
        ("square of share", both(left, lambda noise, share: noise**2 + share * noise**2)),
        ("square the noise", both(lambda n, s: (1 - s) ** 2 * n, lambda n, s: (1 + s**2) * n)),
        ("a dictionary", lambda noise, share: (left(noise, share), grown(noise, share))),
    ],
    "diagnose": [
        ("one of the four words", always("Overfitting")),
        ("was called generalising", always("generalising")),
        ("was called overfitting", always("overfitting")),
        ("anything at all", diagnosing(learned=1e6)),
        ("its own training points", diagnosing(near=1e6)),
        ("not trained on", diagnosing(apart=1e6)),
        ("both errors are near it", diagnosing(apart=0.1)),
        ("comparison with nan", diagnosing(nan="generalising")),
        ("was called", diagnosing(end=lambda curve: curve[0])),
        ("its very last record is a jump", diagnosing(end=lambda curve: curve[-1])),
        ("its own training points", diagnose_without_best_known),
        ("compared with knowing nothing", diagnose_by_the_first_record),
        ("was called", diagnose_by_the_lessons_numbers),
        ("was called", diagnose_by_validation_alone),
    ],
    "cure": [
        ("was overfitting ran with", curing(overfitting={"steps": 1000})),
        ("what is missing is something to learn from", curing(overfitting={"steps": 30})),
        ("stopping early or a smaller network", curing(overfitting={"width": 2})),
        ("neither data nor time", curing(underfitting={"points": 500})),
        ("neither data nor time", curing(underfitting={"steps": 1000})),
        ("must become much shorter", curing(not_converging={"learning_rate": 3.0})),
        ("not so short", curing(not_converging={"learning_rate": 0.00002})),
        ("changed points and width", curing(overfitting={"points": 400, "width": 50})),
        ("you changed none", lambda settings, diagnosis: dict(settings)),
        ("needs no cure", curing(generalising={"steps": 900})),
        ("points must be a plain number from 8 to 500, whole", curing(overfitting={"points": 100_000})),
        ("the keys points, width", lambda settings, diagnosis: {"points": 400}),
    ],
    "find_copies": [
        ("of the copies are found, and 90%", finding(mirror=False)),
        ("shifted by up to 2 pixels", finding(reach=0)),
        ("shifted by up to 2 pixels", finding(reach=1)),
        ("brighter or darker", finding(centre=False)),
        ("are called copies, where", finding(limit=0.15)),
        ("90% are asked for", finding(limit=0.002)),
        (".tolist()", find_as_tensor),
        ("for each of the 40 pictures", lambda pictures, training: [True] * len(training)),
        ("100% of the new portraits", lambda pictures, training: [True] * len(pictures)),
        ("0% of the copies", lambda pictures, training: [False] * len(pictures)),
    ],
}
