"""Wrong answers to lab 07."""

import torch
from torch.nn import functional
from torch.nn.functional import conv2d, group_norm, silu


def waves(
    *,
    exponent=lambda n, half, shift, width: -n / (half - shift),
    order=None,
    base=10000.0,
    fill=lambda w: functional.pad(w, (0, 1)),
):
    def timestep_waves(timesteps, width, cosines_first, freq_shift):
        half = width // 2
        angles = timesteps[:, None] * base ** exponent(torch.arange(half), half, freq_shift, width)
        pair = (torch.cos(angles), torch.sin(angles))
        found = order(pair, cosines_first) if order else torch.cat(pair if cosines_first else pair[::-1], dim=1)
        return fill(found) if width % 2 else found

    return timestep_waves


def waves_of_whole_timesteps(timesteps, width, cosines_first, freq_shift):
    return waves()(timesteps.long(), width, cosines_first, freq_shift)


def waves_of_more_speeds(timesteps, width, cosines_first, freq_shift):
    return waves()(timesteps, width + width % 2, cosines_first, freq_shift)[:, :width]


def zero_between(found):
    half = found.shape[1] // 2
    return torch.cat([found[:, :half], torch.zeros(len(found), 1), found[:, half:]], dim=1)


def by_turns(pair, cosines_first):
    return torch.stack(pair if cosines_first else pair[::-1], dim=-1).reshape(len(pair[0]), -1)


def block_with(
    *,
    concatenate=lambda below, skip: torch.cat((below, skip), dim=1),
    embed=silu,
    bend=silu,
    plan=("norm1", "bend", "conv1", "time", "norm2", "bend", "conv2", "input"),
    groups_of=lambda groups: groups,
    norm=group_norm,
    eps=1e-5,
):
    def right_hand_block(weights, from_below, skip, temb, groups):
        given = concatenate(from_below, skip)
        x = given
        for part in plan:
            if part.startswith("norm"):
                x = norm(x, groups_of(groups), weights[f"{part}.weight"], weights[f"{part}.bias"], eps=eps)
            elif part.startswith("conv"):
                x = conv2d(x, weights[f"{part}.weight"], weights[f"{part}.bias"], padding=1)
            elif part == "bend":
                x = bend(x)
            elif part == "time":
                step = embed(temb) @ weights["time_emb_proj.weight"].T + weights["time_emb_proj.bias"]
                x = x + step[..., None, None]
            elif "conv_shortcut.weight" in weights:
                x = x + conv2d(given, weights["conv_shortcut.weight"], weights["conv_shortcut.bias"])
            else:
                x = x + given
        return x

    return right_hand_block


def block_of_changed(change, **options):
    def right_hand_block(weights, from_below, skip, temb, groups):
        return block_with(**options)(*change(weights, temb, from_below, skip), groups)

    return right_hand_block


def without_biases(weights, temb, *maps):
    return {name: each * (not name.endswith("bias")) for name, each in weights.items()}, *maps, temb


def first_embedding_for_all(weights, temb, *maps):
    return weights, *maps, temb[:1].repeat(len(temb), 1)


def plain_group_norm(x, groups, weight, bias, eps):
    return group_norm(x, groups, eps=eps)


def without_input_if_no_shortcut(weights, from_below, skip, temb, groups):
    steps = "norm1 bend conv1 time norm2 bend conv2" + (" input" if "conv_shortcut.weight" in weights else "")
    return block_with(**plan(steps))(weights, from_below, skip, temb, groups)


def input_cut_to_size(weights, from_below, skip, temb, groups):
    made = block_with(**plan("norm1 bend conv1 time norm2 bend conv2"))(weights, from_below, skip, temb, groups)
    return made + torch.cat([from_below, skip], dim=1)[:, : made.shape[1]]


def plan(text):
    return {"plan": tuple(text.split())}


def layers(*, bias=1, norm=2, window=9, short=lambda i, o: i != o, second=lambda i, o: o, time=1, first=lambda i, o: i):
    def count_parameters(channels_in, channels_out, temb_channels):
        i, o = channels_in, channels_out
        convs = o * (window * i + bias) + o * (window * second(i, o) + bias)
        others = norm * (first(i, o) + o) + time * o * (temb_channels + bias)
        return convs + others + (o * (i + bias) if short(i, o) else 0)

    return count_parameters


def twice(maps):
    return torch.kron(maps, torch.ones(1, 1, 2, 2))


def cut(maps, skip):
    return maps[:, :, : skip.shape[2], : skip.shape[3]]


def meeting(*, enlarge=lambda maps, skip: cut(twice(maps), skip), work=None, join=None):
    def meet_skip(maps, skip, weight, bias):
        if work:
            larger = work(maps, skip, lambda x: conv2d(x, weight, bias, padding=1))
        else:
            larger = conv2d(enlarge(maps, skip), weight, bias, padding=1)
        return join(larger, skip) if join else torch.cat((larger, skip), dim=1)

    return meet_skip


def meet_with_repeated_border(maps, skip, weight, bias):
    larger = functional.pad(cut(twice(maps), skip), (1, 1, 1, 1), mode="replicate")
    return torch.cat((conv2d(larger, weight, bias), skip), dim=1)


def larger_half(maps, factor=1):
    border = maps.abs().flatten(1).median(dim=1).values[:, None, None, None]
    return factor * maps * (maps.abs() > border)


def thin_in_place(maps):
    maps[maps.abs() < maps.abs().median()] = 0
    return maps


def first_half_of_the_channels(maps):
    half = maps.shape[1] // 2
    return torch.cat([maps[:, :half], torch.zeros_like(maps[:, half:])], dim=1)


def checkerboard(maps):
    rows, columns = (torch.arange(side) for side in maps.shape[2:])
    return maps * ((rows[:, None] + columns) % 2)


WRONG = {
    "timestep_waves": [
        ("must follow cosines_first", waves(order=lambda pair, first: torch.cat(pair, dim=1))),
        ("may also be True", waves(order=lambda pair, first: torch.cat(pair[::-1], dim=1))),
        ("between the two kinds", waves(fill=zero_between)),
        ("do not round", waves_of_whole_timesteps),
        ("rounded down", waves_of_more_speeds),
        ("swapped", waves(order=lambda pair, first: torch.cat(pair[::-1] if first else pair, dim=1))),
        ("not used", waves(exponent=lambda n, half, shift, width: -n / half)),
        ("not added", waves(exponent=lambda n, half, shift, width: -n / (half + shift))),
        ("half of the width", waves(exponent=lambda n, half, shift, width: -n / (width - shift))),
        ("exponent is negative", waves(exponent=lambda n, half, shift, width: n / (half - shift))),
        ("not by turns", waves(order=by_turns)),
        ("one 0 at the end", waves(fill=lambda found: found)),
        ("not in front", waves(fill=lambda found: functional.pad(found, (1, 0)))),
        ("base is 10000", waves(base=1000.0)),
    ],
    "right_hand_block": [
        ("order of the channels", block_with(concatenate=lambda below, skip: torch.cat((skip, below), dim=1))),
        ("embedding is missing", block_with(**plan("norm1 bend conv1 norm2 bend conv2 input"))),
        ("before the linear layer", block_with(embed=lambda temb: temb)),
        ("after the first convolution", block_with(**plan("norm1 bend conv1 norm2 bend conv2 time input"))),
        ("not after it", block_with(**plan("norm1 bend conv1 norm2 time bend conv2 input"))),
        ("embedding of its own", block_of_changed(first_embedding_for_all)),
        ("biases must be added", block_of_changed(without_biases)),
        ("a scale and a shift", block_with(norm=plain_group_norm)),
        ("the input itself", without_input_if_no_shortcut),
        ("through conv_shortcut", input_cut_to_size),
        ("not 0: some maps", block_with(eps=0)),
        ("not 1e-6", block_with(eps=1e-6)),
        ("at the very end", block_with(**plan("norm1 bend conv1 time input norm2 bend conv2"))),
        ("must be added at the end", block_with(**plan("norm1 bend conv1 time norm2 bend conv2"))),
        ("SiLU is missing", block_with(**plan("norm1 conv1 time norm2 conv2 input"))),
        ("that is ReLU", block_with(bend=torch.relu)),
        ("normalize first", block_with(**plan("bend norm1 conv1 time bend norm2 conv2 input"))),
        ("second normalization", block_with(**plan("norm1 bend conv1 time bend conv2 input"))),
        ("first normalization", block_with(**plan("bend conv1 time norm2 bend conv2 input"))),
        ("groups", block_with(groups_of=lambda groups: 1)),
        ("stopped with RuntimeError", block_with(concatenate=lambda below, skip: below)),
    ],
    "count_parameters": [
        ("a constant for each", layers(bias=0)),
        ("normalizations have parameters", layers(norm=0)),
        ("two numbers for each channel", layers(norm=1)),
        ("up or down", layers(short=lambda i, o: i > o)),
        ("window of 1 x 1", lambda i, o, t: layers()(i, o, t) + 8 * i * o * (i != o)),
        ("has a bias, too", lambda i, o, t: layers()(i, o, t) - o * (i != o)),
        ("convolution has made", lambda i, o, t: layers()(i, o, t) - 2 * o + 2 * i),
        ("that goes out", lambda i, o, t: layers(time=0)(i, o, t) + i * t + i),
        ("if the channels change", layers(short=lambda i, o: False)),
        ("if the channels stay", layers(short=lambda i, o: True)),
        ("linear layer", layers(time=0)),
        ("second convolution", layers(second=lambda i, o: i)),
        ("nine weights", layers(window=3)),
        ("channels that come in", layers(first=lambda i, o: o)),
    ],
    "meet_skip": [
        ("cut before the convolution", meeting(work=lambda maps, skip, conv: cut(conv(twice(maps)), skip))),
        (
            "not the first",
            meeting(enlarge=lambda maps, skip: twice(maps)[:, :, -skip.shape[2] :, -skip.shape[3] :]),
        ),
        ("not the whole map", meeting(enlarge=lambda maps, skip: cut(torch.tile(maps, (2, 2)), skip))),
        (
            "smooth",
            meeting(enlarge=lambda m, s: functional.interpolate(m, s.shape[2:], mode="bilinear", align_corners=False)),
        ),
        ("convolution is missing", meeting(work=lambda maps, skip, conv: cut(twice(maps), skip))),
        ("bias is missing", lambda maps, skip, weight, bias: meeting()(maps, skip, weight, torch.zeros_like(bias))),
        ("not of repeated cells", meet_with_repeated_border),
        ("enlarge first", meeting(work=lambda maps, skip, conv: cut(twice(conv(maps)), skip))),
        ("then the skip's", meeting(join=lambda larger, skip: torch.cat((skip, larger), dim=1))),
        ("return both", meeting(join=lambda larger, skip: larger)),
        ("Sizes of tensors must match", meeting(enlarge=lambda maps, skip: twice(maps))),
    ],
    "thin_out": [
        ("too much was lost", first_half_of_the_channels),
        ("too much was lost", lambda maps: maps * (maps > maps.flatten(1).median(dim=1).values[:, None, None, None])),
        ("at least 50 %", lambda maps: maps),
        ("at least 50 %", lambda maps: maps / 2),
        ("large ones matter", checkerboard),
        ("stay what they are", lambda maps: larger_half(maps, 2)),
        ("at least 50 %", lambda maps: maps * (maps.abs() >= maps.abs().median())),
        ("in place", thin_in_place),
        ("return maps of the shape", lambda maps: maps[:, ::2]),
        ("return maps of the shape", lambda maps: None),
        ("finite", lambda maps: maps / (maps > 1)),
    ],
}
