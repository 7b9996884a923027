"""Wrong answers to lab 11."""

import torch
from torch.nn import functional as F


def layer_with(scale):
    def lora_linear(x, weight, bias, adapters):
        output = F.linear(x, weight, bias)
        for down, up, alpha, strength in adapters:
            output = output + F.linear(F.linear(x, down), up) * scale(down, alpha, strength)
        return output

    return lora_linear


def layer_without_bias(x, weight, bias, adapters):
    whole = weight.clone()
    for down, up, alpha, strength in adapters:
        whole += strength * alpha / len(down) * up @ down
    return x @ whole.T


def layer_with_the_first(x, weight, bias, adapters):
    output = F.linear(x, weight, bias)
    for down, up, alpha, strength in adapters:
        return output + strength * alpha / len(down) * F.linear(F.linear(x, down), up)
    return output


def layer_with_the_last(x, weight, bias, adapters):
    whole = weight
    for down, up, alpha, strength in adapters:
        whole = weight + strength * alpha / down.shape[0] * up @ down
    return F.linear(x, whole, bias)


def adapters_alone(x, weight, bias, adapters):
    change = torch.zeros_like(weight)
    for down, up, alpha, strength in adapters:
        change = change + strength * alpha / len(down) * up @ down
    return F.linear(x, change, bias)


def layer_in_place(x, weight, bias, adapters):
    for down, up, alpha, strength in adapters:
        weight += strength * alpha / len(down) * up @ down
    return F.linear(x, weight, bias)


def product_the_wrong_way(x, weight, bias, adapters):
    for down, up, alpha, strength in adapters:
        weight = weight + strength * alpha / len(down) * down @ up
    return F.linear(x, weight, bias)


def layer_with_a_bias_always(x, weight, bias, adapters):
    return layer_with(lambda down, alpha, strength: strength * alpha / len(down))(x, weight, None, adapters) + bias


def layer_in_single_precision(x, weight, bias, adapters):
    output = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    for down, up, alpha, strength in adapters:
        output = output + strength * alpha / len(down) * (x.float() @ down.float().T @ up.float().T)
    return output


def layer_with_the_bias_each_time(x, weight, bias, adapters):
    output = F.linear(x, weight, bias)
    for down, up, alpha, strength in adapters:
        output = output + F.linear(x, strength * alpha / len(down) * up @ down, bias)
    return output


def numbers(pairs, rank_of=lambda rank: rank):
    """Count A and B of the matrices (how many, d_in, d_out)."""

    def predict_lora_numbers(width, text_width, rank):
        sides = {"w": width, "t": text_width, "0": 0}
        return rank_of(rank) * sum(count * (sides[d_in] + sides[d_out]) for count, d_in, d_out in pairs)

    return predict_lora_numbers


def numbers_of_the_matrices(width, text_width, rank):
    return 6 * width**2 + 2 * width * text_width


def read_without_itself(hidden_states, layers, strength):
    x = hidden_states
    for weight, bias in layers[:-1]:
        x = F.relu(F.linear(x, weight, bias))
    return strength * F.linear(x, *layers[-1])


def read_with(bend=F.relu, last=lambda x: x, start=lambda x: x, join=lambda h, x, s: h + s * x, use_bias=True):
    def read_through(hidden_states, layers, strength):
        x = start(hidden_states)
        for place, (weight, bias) in enumerate(layers):
            x = F.linear(x, weight, bias if use_bias else None)
            x = bend(x) if place + 1 < len(layers) else last(x)
        return join(hidden_states, x, strength)

    return read_through


def read_in_place(hidden_states, layers, strength):
    hidden_states += strength * (read_with()(hidden_states, layers, 1.0) - hidden_states)
    return hidden_states


def read_two_layers(hidden_states, layers, strength):
    (first, first_bias), (second, second_bias) = layers
    return hidden_states + strength * F.linear(F.relu(F.linear(hidden_states, first, first_bias)), second, second_bias)


def read_with_a_bend_where_the_width_changes(hidden_states, layers, strength):
    x = hidden_states
    for weight, bias in layers:
        x = F.linear(x, weight, bias)
        if len(weight) != hidden_states.shape[-1]:
            x = F.relu(x)
    return hidden_states + strength * x


def gradients(of_weight=None, of_bias=None, of_features=None):
    def zero_convolution_gradients(features, weight, upstream):
        x, g = features.transpose(0, 1).flatten(1), upstream.transpose(0, 1).flatten(1)
        found = [
            g @ x.T if of_weight is None else of_weight(x, g),
            g.sum(1) if of_bias is None else of_bias(upstream),
            torch.einsum("nohw,oc->nchw", upstream, weight),
        ]
        if of_features is not None:
            found[2] = of_features(features, weight, upstream)
        return tuple(found)

    return zero_convolution_gradients


def gradients_averaged(features, weight, upstream):
    cells = features[:, 0].numel()
    of_weight, of_bias, of_features = gradients()(features, weight, upstream)
    return of_weight / cells, of_bias / cells, of_features


def gradients_in_another_order(features, weight, upstream):
    of_weight, of_bias, of_features = gradients()(features, weight, upstream)
    return of_features, of_bias, of_weight


def gradients_without_the_last(features, weight, upstream):
    return gradients()(features, weight, upstream)[:2]


def merge(scale=lambda strength: strength, wanted="", keep=True, order=lambda down, up: up @ down, cast=True):
    def merge_lora(weights, lora, strength):
        merged = dict(weights) if keep else {}
        for name in lora:
            if ".lora_A." not in name or wanted not in name:
                continue
            down, up = lora[name], lora[name.replace(".lora_A.", ".lora_B.")]
            down, up = (down.float(), up.float()) if cast else (down, up)
            target = name[len("unet.") :].replace(".lora_A", "")
            merged[target] = weights[target] + scale(strength) * order(down, up)
        return merged

    return merge_lora


def merge_changes_only(weights, lora, strength):
    merged = merge()(weights, lora, strength)
    return {name: merged[name] - weights[name] for name in weights}


def merge_under_the_files_names(weights, lora, strength):
    return {**weights, **{f"unet.{name}": weight for name, weight in merge()(weights, lora, strength).items()}}


def merge_in_half_precision(weights, lora, strength):
    return {name: weight.half() for name, weight in merge()(weights, lora, strength).items()}


def merge_in_place(weights, lora, strength):
    for name, weight in merge()(weights, lora, strength).items():
        weights[name] += weight - weights[name]
    return weights


def merge_the_shipped_lora(weights, lora, strength):
    from sdcourse.checks.lab_11 import attention_weights, shipped_lora

    merged = merge()(weights | attention_weights(), shipped_lora(), strength)
    return {name: merged[name] for name in weights}


def merge_with_rows_in_front(weights, lora, strength):
    return {name: weight[None] for name, weight in merge()(weights, lora, strength).items()}


def merge_with_the_next_b(weights, lora, strength):
    return merge(order=lambda down, up: up.roll(1, dims=1) @ down)(weights, lora, strength)


WRONG = {
    "lora_linear": [
        ("alpha / rank is missing", layer_with(lambda down, alpha, strength: strength)),
        ("strength is missing", layer_with(lambda down, alpha, strength: alpha / len(down))),
        ("not multiplied by it", layer_with(lambda down, alpha, strength: strength * alpha * len(down))),
        ("division by the rank", layer_with(lambda down, alpha, strength: strength * alpha)),
        ("not the width of x", layer_with(lambda down, alpha, strength: strength * alpha / down.shape[-1])),
        ("only the first", layer_with_the_first),
        ("only the last", layer_with_the_last),
        ("bias of the layer", layer_without_bias),
        ("own weight is missing", adapters_alone),
        ("may be negative", layer_with(lambda down, alpha, strength: abs(strength) * alpha / len(down))),
        ("cuts it to a whole number", layer_with(lambda down, alpha, strength: strength * (alpha // len(down)))),
        ("not with each LoRA", layer_with_the_bias_each_time),
        ("expected values of torch.float64", layer_in_single_precision),
        ("in place", layer_in_place),
        ("RuntimeError", product_the_wrong_way),
        ("TypeError", layer_with_a_bias_always),
    ],
    "predict_lora_numbers": [
        ("as many as the matrices", numbers_of_the_matrices),
        ("not multiplied", lambda w, t, r: r * numbers_of_the_matrices(w, t, r)),
        ("only the cross-attention", numbers([(2, "w", "w"), (2, "t", "w")])),
        ("only A of each", numbers([(6, "w", "0"), (2, "t", "0")])),
        ("only the self-attention", numbers([(4, "w", "w")])),
        ("read the text", numbers([(8, "w", "w")])),
        ("the other six", numbers([(4, "w", "w"), (4, "t", "w")])),
        ("to_q of the cross-attention", numbers([(5, "w", "w"), (3, "t", "w")])),
        ("to_out.0 has a LoRA", numbers([(4, "w", "w"), (2, "t", "w")])),
        ("rank counts once", numbers([(6, "w", "w"), (2, "t", "w")], lambda rank: 1)),
        ("expected a number, got a tensor", lambda w, t, r: torch.tensor(r * (14 * w + 2 * t))),
    ],
    "read_through": [
        ("vector itself, which is missing", read_without_itself),
        ("strength is missing", read_with(join=lambda h, x, s: h + x)),
        ("the correction alone", read_with(join=lambda h, x, s: s * (h + x))),
        ("no bend after the last", read_with(last=F.relu)),
        ("bend is missing", read_with(bend=lambda x: x)),
        ("biases are missing", read_with(use_bias=False)),
        ("without a bend before it", read_with(start=F.relu)),
        ("absolute value", read_with(bend=torch.abs)),
        ("nothing is taken from it", read_with(join=lambda h, x, s: torch.lerp(h, x, s))),
        ("need not be the last", read_with_a_bend_where_the_width_changes),
        ("in place", read_in_place),
        ("ValueError", read_two_layers),
    ],
    "zero_convolution_gradients": [
        ("although it is 0", gradients(of_weight=lambda x, g: torch.zeros(len(g), len(x), dtype=x.dtype))),
        ("not always 0", gradients(of_features=lambda f, w, u: torch.zeros_like(f))),
        ("passes through the weight", gradients(of_features=lambda f, w, u: torch.zeros_like(f) + u.sum(1)[:, None])),
        ("nothing is averaged", gradients_averaged),
        ("not a mean", gradients(of_bias=lambda u: u.mean(dim=(0, 2, 3)))),
        ("output channels first", gradients(of_weight=lambda x, g: x @ g.T)),
        ("sum over the pictures too", gradients(of_bias=lambda u: u.flatten(2).sum(2))),
        ("bias gets a gradient", gradients(of_bias=lambda u: torch.zeros_like(u[0, :, 0, 0]))),
        ("in the order", gradients_in_another_order),
        ("a list or tuple of 3, got a list or tuple of 2", gradients_without_the_last),
    ],
    "merge_lora": [
        ("at strength 0", merge(scale=lambda strength: 1)),
        ("half as large", merge(scale=lambda strength: strength**2)),
        ("half as large", merge(scale=round)),
        ("twice the change", merge(scale=lambda strength: min(strength, 1.0))),
        ("the opposite", merge(scale=abs)),
        ("half precision", merge(cast=False)),
        ("do not divide by the rank", merge(order=lambda down, up: up @ down / len(down))),
        ("use what you are given", merge_the_shipped_lora),
        ("its sign", merge(scale=lambda strength: -strength)),
        ("are not changed", merge(wanted="attn2")),
        ("is missing", merge(keep=False)),
        ("must have the shape", merge_with_rows_in_front),
        ("such as a bias", merge_changes_only),
        ("no weight 'unet.", merge_under_the_files_names),
        ("must stay in", merge_in_half_precision),
        ("in place", merge_in_place),
        ("whose A and B", merge_with_the_next_b),
        ("return a dictionary", lambda weights, lora, strength: list(weights)),
        ("its size", merge(scale=lambda strength: 1.3 * strength)),
    ],
}
