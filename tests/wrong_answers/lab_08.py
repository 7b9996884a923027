"""Wrong answers to lab 08."""

import math

import torch
import torch.nn.functional as F


def plain_attention(query, key, value, readable):
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


def mask_turned_round(query, key, value, readable):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=(~readable).expand(query.shape[-2], -1))


def mask_after_the_softmax(query, key, value, readable):
    shares = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    shares[..., ~readable] = 0
    return shares @ value


def scores_set_to_zero(query, key, value, readable):
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    scores[..., ~readable] = 0
    return scores.softmax(-1) @ value


def masked(divide, axis=-1):
    def attend(query, key, value, readable):
        scores = divide(query @ key.transpose(-2, -1), query, key, value)
        return scores.masked_fill(~readable, float("-inf")).softmax(axis) @ value

    return attend


def filled(hide):
    return lambda query, key, value, readable: (
        hide(query @ key.mT / query.shape[-1] ** 0.5, readable).softmax(-1) @ value
    )


def softmax_over_places(query, key, value, readable):
    return ((query @ key.mT / query.shape[-1] ** 0.5).softmax(-2) * readable) @ value


def softmax_by_hand(query, key, value, readable):
    powers = (query @ key.mT / query.shape[-1] ** 0.5).exp() * readable
    return powers / powers.sum(-1, keepdim=True) @ value


def attend_for_matrices(query, key, value, readable):
    scores = query @ key.t() / query.shape[-1] ** 0.5
    return scores.masked_fill(~readable, float("-inf")).softmax(-1) @ value


def attend_in_place(query, key, value, readable):
    key[..., ~readable, :] = -1e4
    return (query @ key.mT).softmax(-1) @ value


def shares_only(query, key, value, readable):
    return (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~readable, float("-inf")).softmax(-1)


def layer(divide=None, split=None, join=None, use_heads=True, turn=lambda w: w, out=True, bias=True, dim=-1):
    """A cross-attention layer with one thing done differently."""

    def cross_attention(hidden_states, encoder_hidden_states, weights, heads):
        n, places, width = hidden_states.shape
        heads = heads if use_heads else 1
        cut = split or (lambda x: x.reshape(n, -1, heads, width // heads).permute(0, 2, 1, 3))
        query = cut(hidden_states @ turn(weights["to_q"]).T)
        key, value = (cut(encoder_hidden_states @ weights[name].T) for name in ("to_k", "to_v"))
        scores = query @ key.mT / (divide(width) if divide else (width // heads) ** 0.5)
        found = scores.softmax(dim) @ value
        found = join(found) if join else found.permute(0, 2, 1, 3).reshape(n, places, width)
        if not out:
            return found
        return found @ turn(weights["to_out"]).T + (weights["bias"] if bias else 0)

    return cross_attention


def layer_that_combs(hidden_states, encoder_hidden_states, weights, heads):
    n, _, width = hidden_states.shape
    combed = layer(split=lambda x: x.reshape(n, -1, width // heads, heads).permute(0, 3, 1, 2))
    return combed(hidden_states, encoder_hidden_states, weights, heads)


def layer_that_cuts_places(hidden_states, encoder_hidden_states, weights, heads):
    n, _, width = hidden_states.shape
    cut = layer(split=lambda x: x.reshape(n, heads, -1, width // heads))
    return cut(hidden_states, encoder_hidden_states, weights, heads)


def layer_that_joins_askew(hidden_states, encoder_hidden_states, weights, heads):
    askew = layer(join=lambda found: found.reshape(hidden_states.shape))
    return askew(hidden_states, encoder_hidden_states, weights, heads)


def layer_for_one_picture(hidden_states, encoder_hidden_states, weights, heads):
    return layer()(hidden_states[:1], encoder_hidden_states[:1], weights, heads)


def layer_with_keys_for_values(hidden_states, encoder_hidden_states, weights, heads):
    exchanged = {**weights, "to_k": weights["to_v"], "to_v": weights["to_k"]}
    return layer()(hidden_states, encoder_hidden_states, exchanged, heads)


def layer_that_divides_twice(hidden_states, encoder_hidden_states, weights, heads):
    return layer(divide=lambda width: width // heads)(hidden_states, encoder_hidden_states, weights, heads)


def layer_that_reads_itself(hidden_states, encoder_hidden_states, weights, heads):
    return layer()(hidden_states, hidden_states, weights, heads)


def word_map(rows, mode="bilinear", corners=False, layers="mean", tokens="mean", turn=False):
    """A heat map with one thing done differently; rows(probabilities, word) -> [h * w, tokens of the word]."""

    def heat_map(probabilities, sizes, word, size):
        found = []
        for layer_probabilities, (h, w) in zip(probabilities, sizes, strict=True):
            one = getattr(rows(layer_probabilities, word), tokens)(-1)
            one = one.view(w, h).t() if turn else one.view(h, w)
            options = {} if mode == "nearest" else {"align_corners": corners}
            found.append(F.interpolate(one[None, None], size=tuple(size), mode=mode, **options)[0, 0])
        return getattr(torch.stack(found), layers)(0)

    return heat_map


def right_rows(probabilities, word):
    rest = probabilities[:, :, 1:]
    rest = rest / rest.sum(2, keepdim=True)
    return rest.mean(0)[:, [token - 1 for token in word]]


def shifted_rows(probabilities, word):
    rest = torch.cat([probabilities[:, :, 1:], torch.zeros_like(probabilities[:, :, :1])], 2)
    return (rest / rest.sum(2, keepdim=True)).mean(0)[:, word]


def cut_off_rows(probabilities, word):
    rest = probabilities[:, :, 1:]
    return (rest / rest.sum(2, keepdim=True)).mean(0)[:, word]


def late_rows(probabilities, word):
    rest = probabilities.mean(0)[:, 1:]
    return (rest / rest.sum(1, keepdim=True))[:, [token - 1 for token in word]]


def token_by_token(probabilities, word):
    return (probabilities / probabilities.sum(1, keepdim=True)).mean(0)[:, word]


def swapped_size(probabilities, sizes, word, size):
    return word_map(right_rows)(probabilities, sizes, word, size[::-1])


def enlarged(maps, tokens, layers=lambda name: True):
    chosen = [one[tokens].mean(0) for name, one in maps.items() if layers(name)]
    return sum(F.interpolate(one[None, None], (128, 128), mode="bilinear")[0, 0] for one in chosen)


def brightest(heat):
    return divmod(int(heat.argmax()), heat.shape[1])


def row_and_column(maps, tokens):
    return brightest(enlarged(maps, tokens))


WRONG = {
    "attend": [
        ("every token is read", plain_attention),
        ("True means readable", mask_turned_round),
        ("before the softmax", mask_after_the_softmax),
        ("hides nothing", scores_set_to_zero),
        ("not divided by the root", masked(lambda scores, q, k, v: scores)),
        ("not by d", masked(lambda scores, q, k, v: scores / q.shape[-1])),
        ("number of tokens", masked(lambda scores, q, k, v: scores / k.shape[-2] ** 0.5)),
        ("runs over the places", masked(lambda scores, q, k, v: scores / q.shape[-1] ** 0.5, axis=-2)),
        ("not over the places", softmax_over_places),
        ("no mask yet", filled(lambda scores, readable: scores + readable)),
        ("0 times infinity", filled(lambda scores, readable: scores + (1 - readable.float()) * float("-inf"))),
        ("plus infinity", filled(lambda scores, readable: torch.where(readable, scores, float("inf")))),
        ("-100 hides nothing", filled(lambda scores, readable: torch.where(readable, scores, -100.0))),
        ("not finite", softmax_by_hand),
        ("RuntimeError", attend_for_matrices),
        ("in place", attend_in_place),
        ("expected the shape", shares_only),
    ],
    "cross_attention": [
        ("heads are missing", layer(use_heads=False)),
        ("one head's query", layer(divide=lambda width: width**0.5)),
        ("not divided by the root", layer(divide=lambda width: 1)),
        ("to_out is missing", layer(out=False)),
        ("bias of to_out", layer(bias=False)),
        ("wrong way round", layer(turn=lambda weight: weight.T)),
        ("side by side", layer_that_combs),
        ("mixes places", layer_that_cuts_places),
        ("to join the heads", layer_that_joins_askew),
        ("over the tokens", layer(dim=-2)),
        ("keys and values", layer_with_keys_for_values),
        ("twice", layer_that_divides_twice),
        ("is added", lambda x, text, weights, heads: x + layer()(x, text, weights, heads)),
        ("its own text", lambda x, text, weights, heads: layer()(x, torch.stack([text[0]] * len(x)), weights, heads)),
        ("expected the shape", layer_for_one_picture),
        ("RuntimeError", layer_that_reads_itself),
    ],
    "lead_for_share": [
        ("tokens - 1 others", lambda tokens, share: math.log(share * tokens / (1 - share))),
        ("number is missing", lambda tokens, share: math.log(share) - math.log(1 - share)),
        ("logarithm of it", lambda tokens, share: share * (tokens - 1) / (1 - share)),
        ("do not keep", lambda tokens, share: math.log(share / (1 / tokens))),
        ("sign is wrong", lambda tokens, share: math.log((1 - share) / share / (tokens - 1))),
        ("natural logarithm, as", lambda tokens, share: math.log(share * (tokens - 1) / (1 - share), 2)),
        ("not of 10", lambda tokens, share: math.log10(share * (tokens - 1) / (1 - share))),
        ("what is left", lambda tokens, share: math.log(share) + math.log(tokens - 1)),
        ("not always 77", lambda tokens, share: math.log(share) + math.log(76) - math.log(1 - share)),
        ("below the others", lambda tokens, share: abs(math.log(share / (1 - share)) + math.log(tokens - 1))),
        ("stop at 0", lambda tokens, share: max(math.log(share / (1 - share)) + math.log(tokens - 1), 0.0)),
        ("got a tensor", lambda tokens, share: torch.tensor(share * (tokens - 1) / (1 - share)).log()),
        ("ValueError", lambda tokens, share: math.sqrt(share - 1 / tokens - 1e-9)),
    ],
    "heat_map": [
        ("keeps its share", word_map(lambda p, word: p.mean(0)[:, word])),
        ("so that these add up to 1", word_map(lambda p, word: p[:, :, 1:].mean(0)[:, [token - 1 for token in word]])),
        ("before you average", word_map(late_rows)),
        ("one off", word_map(shifted_rows)),
        ("over its places", word_map(token_by_token)),
        ("row by row", word_map(right_rows, turn=True)),
        ("mean over the layers", word_map(right_rows, layers="sum")),
        ("mean over the tokens", word_map(right_rows, tokens="sum")),
        ("mode='bilinear'", word_map(right_rows, mode="nearest")),
        ("align_corners=False", word_map(right_rows, corners=True)),
        ("several tokens", lambda p, sizes, tokens, size: word_map(right_rows)(p, sizes, [tokens[0]], size)),
        (
            "height first",
            lambda p, sizes, tokens, size: word_map(right_rows)(p, [x[::-1] for x in sizes], tokens, size),
        ),
        ("one off", word_map(cut_off_rows)),
        ("expected the shape", swapped_size),
    ],
    "find_word": [
        ("the same place for both", lambda maps, tokens: (56, 44)),
        ("the same place for both", lambda maps, tokens: brightest(enlarged(maps, [76]))),
        ("row comes first", lambda maps, tokens: brightest(enlarged(maps, tokens))[::-1]),
        (
            "upper left corner",
            lambda maps, tokens: brightest(
                maps["down_blocks.1.attentions.0.transformer_blocks.0.attn2"][tokens].mean(0)
            ),
        ),
        ("not every layer points", lambda maps, tokens: brightest(enlarged(maps, tokens, lambda name: "mid" in name))),
        ("not every layer points", lambda maps, tokens: brightest(-enlarged(maps, tokens))),
        (".tolist()", lambda maps, tokens: torch.tensor(brightest(enlarged(maps, tokens)))),
        ("two plain numbers", lambda maps, tokens: int(enlarged(maps, tokens).argmax())),
        ("where things mostly are", lambda maps, tokens: (122, 64) if tokens[0] > 6 else (62, 64)),
        (
            "where things mostly are",
            lambda maps, tokens: (122 if tokens[0] > 6 else 62, row_and_column(maps, tokens)[1]),
        ),
        ("from 0 to 127", lambda maps, tokens: (int(enlarged(maps, tokens).argmax()), 0)),
    ],
}
