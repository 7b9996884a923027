"""Checks of lab 06: byte-pair rules, the causal mask, the contrastive loss, and sentences for CLIP."""

import functools
import json
from collections import Counter
from itertools import pairwise

import torch
from torch.nn import functional

from ..portraits import VALUES
from .exercise import Draws, Lab
from .outcome import Wrong

check = Lab("06", "Teach a machine to read")

PLACES, PORTRAITS = 77, 80
ASKED = {"eyes": 0.8, "shirt": 0.8, "hat": 0.85}


def join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Return ``pieces`` with every neighbouring ``pair`` made into one piece.

    >>> join(["b", "l", "u", "e</w>"], ("l", "u"))
    ['b', 'lu', 'e</w>']
    """
    joined, open_pair = [], False
    for piece in pieces:
        open_pair = not open_pair and bool(joined) and (joined[-1], piece) == pair
        if open_pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def rules_of_tokenizers(words, count):
    """Return the byte-pair rules that the tokenizers library learns from words and how often each occurs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = len(set("".join(words))) + len({word[-1] for word in words})
    trainer = trainers.BpeTrainer(vocab_size=letters + count, show_progress=False, end_of_word_suffix="</w>")
    tokenizer.train_from_iterator((word for word, times in words.items() for _ in range(times)), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in merges]


def _counted(words, rows, weighted=True, once=False) -> Counter:
    pairs = Counter()
    for word, row in rows.items():
        for pair in dict.fromkeys(pairwise(row)) if once else pairwise(row):
            pairs[pair] += words[word] if weighted else 1
    return pairs


def _join_first(row, pair):
    place = next((n for n, two in enumerate(pairwise(row)) if two == pair), len(row))
    return [*row[:place], "".join(row[place : place + 2]), *row[place + 2 :]] if place < len(row) else row


def _learn(words, count, *, end="</w>", weighted=True, again=True, rarest=False, once=False, joined=join, least=1):
    rows = {word: [*word, "</w>"] if end is None else [*word[:-1], word[-1] + end] for word in words}
    first, rules = _counted(words, rows, weighted, once), []
    for _ in range(count):
        pairs = _counted(words, rows, weighted, once) if again else first - Counter(dict.fromkeys(rules, 10**9))
        if not pairs or max(pairs.values()) < least:
            break
        rules.append((min if rarest else max)(pairs, key=pairs.get))
        rows = {word: joined(row, rules[-1]) for word, row in rows.items()}
    return rules


def _is_clear(words, count) -> bool:
    """Say whether there is one most frequent pair at every step."""
    rows = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    for _ in range(count):
        best = _counted(words, rows).most_common(2)
        if len(best) < 2 or best[0][1] == best[1][1]:
            return False
        rows = {word: join(row, best[0][0]) for word, row in rows.items()}
    return True


def _words_with_echoes(draws: Draws) -> dict[str, int]:
    """Return words such as "banana", in which the same pair stands twice, and in which that makes a difference."""
    while True:
        words = {}
        for _ in range(6):
            word = "".join(draws.choice(("na", "to", "ri", "ba")) for _ in range(draws.integer(2, 4)))
            words[word + draws.choice(("", "s"))] = draws.integer(1, 40)
        others = _learn(words, 5, once=True), _learn(words, 5, joined=_join_first)
        if _is_clear(words, 5) and _learn(words, 5) not in others:
            return words


@check.exercise(
    rules_of_tokenizers,
    mistakes={
        "a word that occurs ten times counts ten times: add how often the word occurs, not 1": lambda w, n: _learn(
            w, n, weighted=False
        ),
        "count again after every joining: the pieces are no longer what they were": lambda w, n: _learn(
            w, n, again=False
        ),
        "the last letter of a word carries the mark </w>": lambda w, n: _learn(w, n, end=""),
        "</w> belongs to the last letter: it is no piece of its own": lambda w, n: _learn(w, n, end=None),
        "a pair that stands twice in a word counts twice": lambda w, n: _learn(w, n, once=True),
        "join the pair wherever it stands, twice in a word if need be": lambda w, n: _learn(w, n, joined=_join_first),
        "a pair that occurs only once is a pair, too: stop when none is left": lambda w, n: _learn(w, n, least=2),
        "a rule is the pair of pieces, not the piece that they make": lambda w, n: ["".join(r) for r in _learn(w, n)],
        "the most frequent pair comes first, not the rarest": lambda w, n: _learn(w, n, rarest=True),
        "return the rules in the order in which they were found": lambda w, n: _learn(w, n)[::-1],
        "one rule too many": lambda w, n: _learn(w, n + 1),
        "one rule too few": lambda w, n: _learn(w, n - 1),
    },
)
def learn_rules(draws: Draws):
    """Byte-pair rules from words and how often they occur."""
    found = 0
    while found < 3:
        letters = ("aeinrst", "bdelou", "aelmnop")[found]
        words = {}
        for _ in range(9):
            row = [draws.choice(letters) for _ in range(draws.integer(2, 6))]
            word = "".join(letter for n, letter in enumerate(row) if not n or letter != row[n - 1])
            words[word] = draws.integer(1, 40)
        words = {word: times for word, times in words.items() if len(word) > 1}
        if len(words) > 5 and _is_clear(words, 5 + found):
            yield words, 5 + found
            found += 1
    yield {"it": 3, "as": 1}, 5
    yield _words_with_echoes(draws), 5


@functools.cache
def _clip():
    from ..judging import load_clip

    return load_clip()


@torch.no_grad()
def unchanged_in_truth(ids, other_ids):
    """Send both prompts through a text encoder and count the vectors that are the same."""
    clip, rows = _clip(), []
    for each in (ids, other_ids):
        row = [clip.tokenizer.bos_token_id, *each[: PLACES - 2], clip.tokenizer.eos_token_id]
        rows.append(row + [clip.tokenizer.eos_token_id] * (PLACES - len(row)))
    one, other = clip.model.text_model(torch.tensor(rows)).last_hidden_state
    return int(((one - other).abs().amax(dim=1) < 1e-4).sum())


def _first_difference(ids, other_ids):
    places = range(max(len(ids), len(other_ids)))
    return next((n for n in places if ids[n : n + 1] != other_ids[n : n + 1]), None)


def _unchanged(ids, other_ids, *, start=1, room=PLACES - 2, equal=PLACES):
    first = _first_difference(ids[:room], other_ids[:room])
    return equal if first is None else first + start


def _equal_places(ids, other_ids):
    rows = [[*each[:75], -1] + [-1] * (75 - len(each)) for each in (ids, other_ids)]
    return 1 + sum(one == other for one, other in zip(*rows, strict=True))


@check.exercise(
    unchanged_in_truth,
    mistakes={
        "the start token is a place too: it comes before the first word": lambda i, o: _unchanged(i, o, start=0),
        "the place of the first difference has changed itself: count those before it": lambda i, o: _unchanged(
            i, o, start=2
        ),
        "equal tokens behind the first difference change as well: they read what came before": _equal_places,
        "the mask lets a token read only what comes before it, so what comes first stays the same": lambda i, o: (
            PLACES if i[:75] == o[:75] else 0
        ),
        "that is how many change; asked is how many stay": lambda i, o: PLACES - _unchanged(i, o),
        "only the first 75 words are read: a difference behind them changes nothing": lambda i, o: _unchanged(
            i, o, room=10**6
        ),
        "equal prompts, as far as they are read, give 77 equal vectors": lambda i, o: _unchanged(
            i, o, equal=1 + min(len(i), len(o), 75)
        ),
        "equal prompts, as far as they are read, give 77 equal vectors, padding and all": lambda i, o: _unchanged(
            i, o, equal=2 + min(len(i), len(o), 75)
        ),
        "a prompt that goes on differs where the other is over: there stands the end mark": lambda i, o: (
            PLACES if (n := _unchanged(i, o)) == 1 + min(len(i), len(o), 75) else n
        ),
        "equal tokens behind the first difference change too, since they have read it": lambda i, o: (
            1 + sum(one == other for one, other in zip(i[:75], o[:75], strict=False))
        ),
        "the padding changes too: it has read the whole prompt": lambda i, o: (
            PLACES if (n := _unchanged(i, o)) == PLACES else n + PLACES - 2 - min(75, max(len(i), len(o)))
        ),
    },
)
def predict_unchanged(draws: Draws):
    """How many of the 77 vectors stay the same if the prompt changes."""

    def ids(length: int) -> list[int]:
        return [draws.integer(300, 700) for _ in range(length)]

    row = ids(6)
    yield row, [*row[:4], 299, row[5]]
    yield row, [299, *row[1:]]
    yield row, [*row, *ids(2)]
    yield ids(3), [298]
    yield row, list(row)
    long = ids(90)
    yield long, [*long[:75], *ids(4)]
    yield long, [*long[:74], 299, *long[75:]]
    yield long, long[: draws.integer(20, 60)]


def attention_of_torch(q, k, v, may_be_read):
    """Return what torch's own attention gives with this mask."""
    tokens = q.shape[1]
    mask = torch.ones(tokens, tokens, dtype=torch.bool).tril() & may_be_read
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _attend(q, k, v, may_be_read, *, mask=None, scale=None, fill=-torch.inf, dim=-1, after=False, anew=False):
    tokens = q.shape[1]
    seen = (mask or (lambda before, words: before & words))(
        torch.ones(tokens, tokens, dtype=torch.bool).tril(), may_be_read
    )
    scores = q @ k.transpose(-1, -2) / (q.shape[-1] ** 0.5 if scale is None else scale)
    if after:
        shares = scores.softmax(dim=dim) * seen
        return (shares / shares.sum(dim=-1, keepdim=True) if anew else shares) @ v
    return scores.masked_fill(~seen, fill).softmax(dim=dim) @ v


@check.exercise(
    attention_of_torch,
    mistakes={
        "the mask is missing": lambda q, k, v, w: _attend(
            q, k, v, w, mask=lambda before, words: torch.ones_like(before)
        ),
        "struck-out tokens are still read": lambda q, k, v, w: _attend(q, k, v, w, mask=lambda before, words: before),
        "tokens still read what comes after them": lambda q, k, v, w: _attend(
            q, k, v, w, mask=lambda before, words: words.expand_as(before)
        ),
        "the mask is turned round: a token reads what comes before it, the lower left": lambda q, k, v, w: _attend(
            q, k, v, w, mask=lambda before, words: before.T & words
        ),
        "a token also reads itself": lambda q, k, v, w: _attend(
            q, k, v, w, mask=lambda before, words: before.tril(-1) & words
        ),
        "a struck-out token is not read by others, a column of the square; its own row stays": lambda q, k, v, w: (
            _attend(q, k, v, w, mask=lambda before, words: before & words[:, None])
        ),
        "a struck-out token still reads others: strike out its column, not its row as well": lambda q, k, v, w: _attend(
            q, k, v, w, mask=lambda before, words: before & words & words[:, None]
        ),
        "a struck-out token is not read at all, not even by itself": lambda q, k, v, w: _attend(
            q, k, v, w, mask=lambda before, words: before & (words | torch.eye(len(words), dtype=torch.bool))
        ),
        "a value of 0 still takes its share: strike out the score": lambda q, k, v, w: _attend(
            q, k, v * w[:, None], w, mask=lambda before, words: before
        ),
        "row i belongs to query i, column j to key j: they are swapped": lambda q, k, v, w: _attend(k, q, v, w),
        "the scores must be divided by the root of the width": lambda q, k, v, w: _attend(q, k, v, w, scale=1),
        "divide by the root of the width, not by the width": lambda q, k, v, w: _attend(q, k, v, w, scale=q.shape[-1]),
        "divide by the root of the width of a head, not of the number of tokens": lambda q, k, v, w: _attend(
            q, k, v, w, scale=q.shape[1] ** 0.5
        ),
        "a score of 0 still gives a share: what may not be read has the score -inf": lambda q, k, v, w: _attend(
            q, k, v, w, fill=0.0
        ),
        "mask the scores before softmax: shares that are struck out afterwards no longer sum to 1": lambda q, k, v, w: (
            _attend(q, k, v, w, after=True)
        ),
        "mask the scores before softmax: shares divided anew afterwards may be 0 / 0": lambda q, k, v, w: _attend(
            q, k, v, w, after=True, anew=True
        ),
        "a large negative number is not -inf: scores may be lower still": lambda *a: _attend(*a, fill=-1e4),
        "0 times infinity is not a number: put -inf only where nothing may be read": lambda q, k, v, w: (
            (q @ k.mT / q.shape[-1] ** 0.5 + ~(torch.ones(len(w), len(w)).tril().bool() & w) * -torch.inf).softmax(-1)
            @ v
        ),
        "softmax goes over the tokens that are read, the last dimension": lambda q, k, v, w: _attend(
            q, k, v, w, dim=-2
        ),
    },
)
def masked_attention(draws: Draws):
    """Attention that reads only earlier tokens that are not struck out."""
    for heads, tokens, width, dtype in [(1, 5, 4, 32), (4, 9, 3, 32), (2, 7, 16, 64), (3, 6, 2, 32)]:
        kind = {32: torch.float32, 64: torch.float64}[dtype]
        words = draws.normal(tokens) > -0.3
        words[0], words[2], words[3] = True, False, True
        yield *(2 * draws.normal(heads, tokens, width, dtype=kind) for _ in range(3)), words
    yield *(draws.normal(2, 4, 5) for _ in range(3)), torch.ones(4, dtype=torch.bool)
    q, k, v = (draws.normal(2, 5, 3, dtype=torch.float64) for _ in range(3))
    k[:, 0] /= k[:, 0].norm(dim=-1, keepdim=True)
    q[:, 0] = -k[:, 0]  # it fits itself so badly that all it may not read would fit better
    yield 5000 * q, 5000 * k, v, torch.tensor([True, True, False, True, False])


def loss_of_torch(texts, pictures, logit_scale, truth):
    """Return the loss by torch's cross entropy with shares as targets."""
    texts, pictures = functional.normalize(texts, dim=1), functional.normalize(pictures, dim=1)
    scores, truth = logit_scale.exp() * texts @ pictures.T, truth.to(texts.dtype)
    rows = functional.cross_entropy(scores, truth / truth.sum(dim=1, keepdim=True))
    columns = functional.cross_entropy(scores.T, truth.T / truth.T.sum(dim=1, keepdim=True))
    return (rows + columns) / 2


def _loss(
    texts,
    pictures,
    logit_scale,
    truth,
    *,
    unit=True,
    scale=torch.exp,
    weigh=None,
    both=None,
    total=torch.mean,
    logs_of=functional.log_softmax,
    turned=torch.t,
):
    if unit:
        texts, pictures = functional.normalize(texts, dim=1), functional.normalize(pictures, dim=1)
    scores, truth = scale(logit_scale) * texts @ pictures.T, truth.to(texts.dtype)

    def one_way(scores, truth):
        logs = logs_of(scores, dim=1)
        each = weigh(logs, truth) if weigh else (logs * truth).sum(dim=1) / truth.sum(dim=1)
        return total(-each)

    rows, columns = one_way(scores, truth), one_way(scores.T, turned(truth))
    return (both or (lambda rows, columns: (rows + columns) / 2))(rows, columns)


@check.exercise(
    loss_of_torch,
    mistakes={
        "the vectors must be brought to length 1 first, to give cosines": lambda *a: _loss(*a, unit=False),
        "each vector, a row, must be brought to length 1, not each column": lambda t, p, s, truth: _loss(
            functional.normalize(t, dim=0), functional.normalize(p, dim=0), s, truth, unit=False
        ),
        "a large score overflows and a small share is rounded to 0: ask torch for log and softmax in one": lambda *a: (
            _loss(*a, logs_of=lambda scores, dim: scores.softmax(dim).log())
        ),
        "truth[i, j] is about sentence i and picture j: it is turned round": lambda t, p, s, truth: _loss(
            t, p, s, truth.T
        ),
        "for the columns the matrix of truths must be read in columns, too": lambda *a: _loss(*a, turned=torch.clone),
        "count the true ones of a row in that row, those of a column in that column": lambda t, p, s, truth: _loss(
            t, p, s, truth, weigh=lambda logs, t: (logs * t).sum(dim=1) / t.sum(dim=0)
        ),
        "average in each row first, then over the rows: all rows count alike": lambda *a: _loss(
            *a, weigh=lambda logs, t: (logs * t).sum(dim=1) * len(t) / t.sum()
        ),
        "average over the true ones of a row, not over all its places": lambda *a: _loss(
            *a, weigh=lambda logs, t: (logs * t).mean(dim=1)
        ),
        "logit_scale is a logarithm: the scale is its exp": lambda *a: _loss(*a, scale=lambda x: x),
        "the scale is missing": lambda *a: _loss(*a, scale=torch.ones_like),
        "only one direction: each picture must find its sentences, too": lambda *a: _loss(*a, both=lambda r, c: r),
        "only one direction: each sentence must find its pictures, too": lambda *a: _loss(*a, both=lambda r, c: c),
        "take the mean of the two directions, not the sum": lambda *a: _loss(*a, both=lambda r, c: r + c),
        "the sign is wrong: the loss is minus the logarithm of a share": lambda *a: -_loss(*a),
        "several right answers: average their logarithms, do not add them up": lambda *a: _loss(
            *a, weigh=lambda logs, truth: (logs * truth).sum(dim=1)
        ),
        "average the logarithms of the shares, not the shares": lambda *a: _loss(
            *a, weigh=lambda logs, truth: ((logs.exp() * truth).sum(dim=1) / truth.sum(dim=1)).log()
        ),
        "that is the logarithm of the sum of the right shares: average their logarithms": lambda *a: _loss(
            *a, weigh=lambda logs, truth: (logs.exp() * truth).sum(dim=1).log()
        ),
        "take the mean over the rows, not the sum": lambda *a: _loss(*a, total=torch.sum),
        "only the diagonal counts as right: use the matrix of truths": lambda t, p, s, truth: _loss(
            t, p, s, torch.eye(*truth.shape)
        ),
    },
)
def shared_loss(draws: Draws):
    """The contrastive loss when a sentence is true of several pictures."""
    for number, width, dtype in [(5, 8, torch.float32), (3, 16, torch.float32), (7, 4, torch.float64)]:
        truth = torch.eye(number, dtype=torch.bool) | (draws.normal(number, number) > 0.6)
        truth[0, 1] = True
        texts, pictures = 3 * draws.normal(number, width, dtype=dtype), draws.normal(number, width, dtype=dtype)
        yield texts, pictures, torch.tensor(draws.uniform(0.5, 2.5), dtype=dtype), truth
    yield draws.normal(4, 6), draws.normal(4, 6), torch.tensor(2.0), torch.eye(4, dtype=torch.bool)
    texts = draws.normal(5, 6)
    pictures = texts + 0.1 * draws.normal(5, 6)
    pictures[3] = -texts[2]
    yield texts, pictures, torch.tensor(4.6052), torch.eye(5, dtype=torch.bool)  # CLIP's own scale, 100


@functools.cache
def _portraits(seed: int):
    """Return (attributes, CLIP's vectors) of portraits that CLIP was not trained on."""
    from ..judging import image_features
    from ..portraits import draw_portrait, plan_portrait

    plans = [plan_portrait(52_000_000 + 1000 * seed + number, split="any") for number in range(PORTRAITS)]
    vectors = image_features(_clip(), [draw_portrait(plan).image for plan in plans])
    return [plan.attributes for plan in plans], vectors.clone()


def named(name: str, sentences: dict[str, list[str]], *, seed: int = 0) -> list[tuple[str, str]]:
    """Return (true value, value that CLIP names) for unseen portraits.

    sentences: for each value of the attribute ``name`` what to compare a portrait with.
    """
    from ..judging import text_features

    attributes, pictures = _portraits(seed)
    answers = torch.stack([text_features(_clip(), sentences[value]).mean(dim=0) for value in VALUES[name]])
    best = (pictures @ functional.normalize(answers, dim=1).T).argmax(dim=1).tolist()
    return [(getattr(each, name), VALUES[name][choice]) for each, choice in zip(attributes, best, strict=True)]


def share_named(name: str, sentences: dict[str, list[str]], *, seed: int = 0) -> float:
    """Return for which share of the portraits CLIP names the true value."""
    pairs = named(name, sentences, seed=seed)
    return sum(true == said for true, said in pairs) / len(pairs)


@check.effect
def sentences_for(attempt, draws: Draws) -> str:
    """Sentences by which CLIP names eyes, shirts and hats."""
    asked = {name: {value: _sentences(attempt, name, value) for value in VALUES[name]} for name in ASKED}
    for name, enough in ASKED.items():
        sentences = asked[name]
        if len({tuple(row) for row in sentences.values()}) < len(sentences):
            raise Wrong(f"two values of {name} have the same sentences, so CLIP cannot tell them apart")
        share = share_named(name, sentences, seed=draws.seed)
        if share < enough:
            said = f"CLIP names {share:.0%} of the {name.rstrip('s')}s rightly, and {enough:.0%} are asked for"
            raise Wrong(f"{said}: {_advice(name, sentences, draws.seed)}")
    return "CLIP names the eyes, shirts and hats of portraits it never saw"


def _sentences(attempt, name: str, value: str) -> list[str]:
    sentences = attempt(name, value)
    if not isinstance(sentences, list | tuple) or not all(isinstance(each, str) for each in sentences):
        raise Wrong("return a list of sentences, each a string")
    if not sentences or len(sentences) > 40 or not all(each.strip() for each in sentences):
        raise Wrong(f"return between 1 and 40 sentences that are not empty, also for {name} = {value!r}")
    return list(sentences)


def _advice(name: str, sentences: dict, seed: int) -> str:
    wrong = Counter(pair for pair in named(name, sentences, seed=seed) if pair[0] != pair[1])
    missed = sum(times for pair, times in wrong.items() if "none" in pair)
    if "none" in VALUES[name] and missed > 0.6 * wrong.total():
        return "most mistakes are about portraits without a hat, so say in words that there is none"
    return "write whole sentences as in the captions of the lesson, which say what it is that has the colour"
