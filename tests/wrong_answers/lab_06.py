"""Wrong answers to lab 06."""

import math
from collections import Counter
from itertools import pairwise

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from sdcourse.checks.lab_06 import join
from sdcourse.portraits import VALUES


def learning(*, weight=lambda words, word: words[word], mark="</w>", choose=max, update=True, extra=0):
    def learn_rules(words, count):
        pieces = {word: [*word[:-1], word[-1] + mark] for word in words}
        rules = []
        for _ in range(count + extra):
            pairs = Counter()
            for word in words:
                for pair in pairwise(pieces[word]):
                    pairs[pair] += weight(words, word)
            if not update:
                pairs = Counter({pair: n for pair, n in pairs.items() if pair not in rules})
            if not pairs:
                return rules
            rules.append(choose(pairs, key=lambda pair: pairs[pair]))
            if update:
                pieces = {word: join(pieces[word], rules[-1]) for word in words}
        return rules

    return learn_rules


def rules_that_never_stop(words, count):
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    rules = []
    for _ in range(count):
        pairs = Counter()
        for word in words:
            for pair in pairwise(pieces[word]):
                pairs[pair] += words[word]
        rules.append(max(pairs, key=pairs.get))
        pieces = {word: join(pieces[word], rules[-1]) for word in words}
    return rules


def rules_with_a_mark_of_its_own(words, count):
    pieces, rules = {word: [*word, "</w>"] for word in words}, []
    while len(rules) < count:
        pairs = Counter()
        for word, times in words.items():
            for pair in pairwise(pieces[word]):
                pairs[pair] += times
        if not pairs:
            break
        rules.append(max(pairs, key=pairs.get))
        pieces = {word: join(row, rules[-1]) for word, row in pieces.items()}
    return rules


def rules_with(*, once=False, everywhere=True, least=1):
    def learn_rules(words, count):
        pieces, rules = {word: [*word[:-1], word[-1] + "</w>"] for word in words}, []
        for _ in range(count):
            pairs = Counter()
            for word, times in words.items():
                neighbours = list(pairwise(pieces[word]))
                for pair in dict.fromkeys(neighbours) if once else neighbours:
                    pairs[pair] += times
            pairs = Counter({pair: times for pair, times in pairs.items() if times >= least})
            if not pairs:
                break
            best, _ = pairs.most_common(1)[0]
            rules.append(best)
            for word, row in pieces.items():
                if everywhere:
                    pieces[word] = join(row, best)
                elif best in (neighbours := list(pairwise(row))):
                    place = neighbours.index(best)
                    row[place : place + 2] = ["".join(best)]
        return rules

    return learn_rules


def first_difference(ids, other_ids):
    for place in range(max(len(ids), len(other_ids))):
        if ids[place : place + 1] != other_ids[place : place + 1]:
            return place
    return None


def counting(answer, cut=True):
    def predict_unchanged(ids, other_ids):
        if cut:
            ids, other_ids = ids[:75], other_ids[:75]
        place = first_difference(ids, other_ids)
        return 77 if place is None else answer(place, ids, other_ids)

    return predict_unchanged


def count_equal_tokens(ids, other_ids):
    one, other = (["start", *row[:75], *["end"] * 76][:77] for row in (ids, other_ids))
    return sum(a == b for a, b in zip(one, other, strict=True))


def count_until_the_shorter_ends(ids, other_ids):
    ids, other_ids = ids[:75], other_ids[:75]
    for place, (one, other) in enumerate(zip(ids, other_ids, strict=False)):
        if one != other:
            return place + 1
    return min(len(ids), len(other_ids)) + 1


def count_while_both_go_on(ids, other_ids):
    ids, other_ids = ids[:75], other_ids[:75]
    for place, (one, other) in enumerate(zip(ids, other_ids, strict=False)):
        if one != other:
            return place + 1
    return 77


def count_words_that_agree(ids, other_ids):
    return 1 + sum(one == other for one, other in zip(ids[:75], other_ids[:75], strict=False))


def count_words_and_marks(ids, other_ids):
    ids, other_ids = ids[:75], other_ids[:75]
    return 2 + len(ids) if ids == other_ids else 1 + first_difference(ids, other_ids)


def attending(allowed, *, divide=lambda q: math.sqrt(q.shape[-1]), fill=-math.inf, dim=-1):
    def masked_attention(q, k, v, may_be_read):
        n = q.shape[-2]
        scores = torch.einsum("hqd,hkd->hqk", q, k) / divide(q)
        row, column = torch.arange(n)[:, None], torch.arange(n)[None]
        scores = torch.where(allowed(row, column, may_be_read), scores, torch.tensor(fill, dtype=q.dtype))
        return scores.softmax(dim) @ v

    return masked_attention


def right_mask(row, column, words):
    return (column <= row) & words[column]


def attention_masked_too_late(q, k, v, may_be_read):
    shares = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).tril() * may_be_read
    return shares @ v


def attention_divided_anew(q, k, v, may_be_read):
    shares = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).tril() * may_be_read
    return shares / shares.sum(-1, keepdim=True) @ v


def attention_plus_a_mask(q, k, v, may_be_read):
    n = q.shape[1]
    shut = ~(torch.ones(n, n, dtype=torch.bool).tril() & may_be_read)
    return (q @ k.mT / q.shape[-1] ** 0.5 + shut * -torch.inf).softmax(-1) @ v


def attention_without_the_values(q, k, v, may_be_read):
    return attending(lambda row, column, words: column <= row)(q, k, v * may_be_read[:, None], may_be_read)


def loss_of_both(one_way, *, unit=True, scale=torch.exp, join=lambda a, b: (a + b) / 2):
    def shared_loss(texts, pictures, logit_scale, truth):
        if unit:
            texts, pictures = normalize(texts, dim=-1), normalize(pictures, dim=-1)
        scores = scale(logit_scale) * texts @ pictures.T
        return join(one_way(scores, truth), one_way(scores.T, truth.T))

    return shared_loss


def mean_of_logs(scores, truth):
    logs = scores - scores.logsumexp(dim=1, keepdim=True)
    return -((logs * truth).sum(dim=1) / truth.sum(dim=1)).mean()


def sum_of_logs(scores, truth):
    return -(scores.log_softmax(dim=1) * truth).sum(dim=1).mean()


def log_of_mean(scores, truth):
    return -((scores.softmax(dim=1) * truth).sum(dim=1) / truth.sum(dim=1)).log().mean()


def log_of_sum(scores, truth):
    return -(scores.softmax(dim=1) * truth).sum(dim=1).log().mean()


def logs_of_softmax(scores, truth):
    return -((scores.softmax(dim=1).log() * truth).sum(dim=1) / truth.sum(dim=1)).mean()


def logs_of_exponentials(scores, truth):
    shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    return -((shares.log() * truth).sum(dim=1) / truth.sum(dim=1)).mean()


def over_all_true_ones(scores, truth):
    return -scores.log_softmax(dim=1)[truth].mean()


def over_all_places(scores, truth):
    return -(scores.log_softmax(dim=1) * truth).mean()


def counted_in_columns(scores, truth):
    return -((scores.log_softmax(dim=1) * truth).sum(dim=1) / truth.sum(dim=0)).mean()


def loss_with_unit_columns(texts, pictures, logit_scale, truth):
    texts, pictures = normalize(texts, dim=0), normalize(pictures, dim=0)
    return loss_of_both(mean_of_logs, unit=False)(texts, pictures, logit_scale, truth)


def loss_with_truth_not_turned(texts, pictures, logit_scale, truth):
    scores = logit_scale.exp() * normalize(texts, dim=1) @ normalize(pictures, dim=1).T
    return (mean_of_logs(scores, truth) + mean_of_logs(scores.T, truth)) / 2


def loss_with_truth_turned(texts, pictures, logit_scale, truth):
    return loss_of_both(mean_of_logs)(texts, pictures, logit_scale, truth.T)


def summed_rows(scores, truth):
    return mean_of_logs(scores, truth) * len(scores)


def diagonal_loss(texts, pictures, logit_scale, truth):
    scores = logit_scale.exp() * cosine_similarity(texts[:, None], pictures[None], dim=-1)
    target = torch.arange(len(texts))
    return (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2


def told(eyes, shirt, hat, none):
    def sentences_for(name, value):
        if value == "none":
            return [none]
        return [{"eyes": eyes, "shirt": shirt, "hat": hat}[name].format(value)]

    return sentences_for


WHOLE = {"eyes": "a man with {} eyes", "shirt": "a man wearing a {} shirt", "hat": "a man wearing a {} hat"}


WRONG = {
    "learn_rules": [
        ("counts ten times", learning(weight=lambda words, word: 1)),
        ("count again after every joining", learning(update=False)),
        ("carries the mark", learning(mark="")),
        ("not the rarest", learning(choose=min)),
        ("in the order", lambda words, count: learning()(words, count)[::-1]),
        ("one rule too many", learning(extra=1)),
        ("one rule too few", learning(extra=-1)),
        ("no piece of its own", rules_with_a_mark_of_its_own),
        ("counts twice", rules_with(once=True)),
        ("wherever it stands", rules_with(everywhere=False)),
        ("occurs only once", rules_with(least=2)),
        ("not the piece that they make", lambda words, count: ["".join(rule) for rule in learning()(words, count)]),
        ("ValueError", rules_that_never_stop),
        ("got None", lambda words, count: None),
    ],
    "predict_unchanged": [
        ("start token", counting(lambda place, ids, other: place)),
        ("has changed itself", counting(lambda place, ids, other: place + 2)),
        ("behind the first difference", count_equal_tokens),
        ("only what comes before it", counting(lambda place, ids, other: 0)),
        ("asked is how many stay", lambda ids, other: 77 - counting(lambda place, *_: place + 1)(ids, other)),
        ("first 75 words", counting(lambda place, ids, other: place + 1, cut=False)),
        ("equal prompts", count_until_the_shorter_ends),
        ("padding and all", count_words_and_marks),
        ("stands the end mark", count_while_both_go_on),
        ("they have read it", count_words_that_agree),
        ("padding changes too", counting(lambda place, ids, other: place + 1 + 75 - max(len(ids), len(other)))),
    ],
    "masked_attention": [
        ("mask is missing", attending(lambda row, column, words: torch.ones_like(row * column).bool())),
        ("still read", attending(lambda row, column, words: column <= row)),
        ("comes after them", attending(lambda row, column, words: words[column] & (row > -1))),
        ("turned round", attending(lambda row, column, words: (column >= row) & words[column])),
        ("reads itself", attending(lambda row, column, words: (column < row) & words[column])),
        ("its own row stays", attending(lambda row, column, words: (column <= row) & words[row])),
        ("root of the width", attending(right_mask, divide=lambda q: 1)),
        ("not by the width", attending(right_mask, divide=lambda q: q.shape[-1])),
        ("number of tokens", attending(right_mask, divide=lambda q: math.sqrt(q.shape[-2]))),
        ("score of 0", attending(right_mask, fill=0.0)),
        ("not its row as well", attending(lambda row, column, words: (column <= row) & words[column] & words[row])),
        ("not even by itself", attending(lambda r, c, words: (c <= r) & (words[c] | (c == r)))),
        ("takes its share", attention_without_the_values),
        ("they are swapped", lambda q, k, v, words: attending(right_mask)(k, q, v, words)),
        ("divided anew", attention_divided_anew),
        ("is not -inf", attending(right_mask, fill=-1e6)),
        ("0 times infinity", attention_plus_a_mask),
        ("no longer sum to 1", attention_masked_too_late),
        ("the last dimension", attending(right_mask, dim=-2)),
    ],
    "shared_loss": [
        ("length 1", loss_of_both(mean_of_logs, unit=False)),
        ("is its exp", loss_of_both(mean_of_logs, scale=lambda s: s)),
        ("scale is missing", loss_of_both(mean_of_logs, scale=lambda s: s * 0 + 1)),
        ("each picture must find", loss_of_both(mean_of_logs, join=lambda a, b: a)),
        ("each sentence must find", loss_of_both(mean_of_logs, join=lambda a, b: b)),
        ("not the sum", loss_of_both(mean_of_logs, join=lambda a, b: a + b)),
        ("sign is wrong", loss_of_both(mean_of_logs, join=lambda a, b: -(a + b) / 2)),
        ("do not add them up", loss_of_both(sum_of_logs)),
        ("not the shares", loss_of_both(log_of_mean)),
        ("sum of the right shares", loss_of_both(log_of_sum)),
        ("not each column", loss_with_unit_columns),
        ("score overflows", loss_of_both(logs_of_exponentials)),
        ("rounded to 0", loss_of_both(logs_of_softmax)),
        ("turned round", loss_with_truth_turned),
        ("read in columns, too", loss_with_truth_not_turned),
        ("in that column", loss_of_both(counted_in_columns)),
        ("all rows count alike", loss_of_both(over_all_true_ones)),
        ("over all its places", loss_of_both(over_all_places)),
        ("mean over the rows", loss_of_both(summed_rows)),
        ("only the diagonal", diagonal_loss),
    ],
    "sentences_for": [
        ("whole sentences", lambda name, value: [value]),
        ("that there is none", told(**WHOLE, none="a man")),
        ("same sentences", lambda name, value: [f"a portrait of someone with {name}"]),
        ("whole sentences", told(**{**WHOLE, "eyes": "a {} shirt"}, none="a man with no hat")),
        ("list of sentences", lambda name, value: f"a man with {value} {name}"),
        ("between 1 and 40", lambda name, value: []),
        ("between 1 and 40", lambda name, value: [f"a man with {value} {name}"] * 50),
        ("same sentences", lambda name, value: [f"a man with {other} {name}" for other in VALUES[name]]),
    ],
}
