"""What the words have become: do those that may stand for each other lie near, and are the painters told apart?"""

import numpy as np
import torch

from .intervals import mean_interval, share

FAMILIES = {"man": ("man", "gentleman", "guy"), "painters": ("Monet", "Manet", "Degas")}
KNOWN = (*FAMILIES["man"], "woman", "lady", "girl", "cat", "kitty", "kitten", "dog", "hound", "puppy")
KNOWN += ("forest", "beach", "night", "city", "snow")
KNOWN += ("red", "orange", "yellow", "green", "blue", "purple", "white", "black", "brown")
KNOWN += (*FAMILIES["painters"], "Lichtenstein")
# every word is put into every sentence, so that the sentences cannot make the families; what follows cannot matter
CARRIERS = ("a {}", "a cartoon of a {}", "a drawing of a {}", "a painting by Monet of a {}")
CARRIERS += ("a portrait by Degas of a {}", "a man wearing a red hat by the {}")
CARRIERS += ("a man, painted by {}", "a cat in the style of {}", "a woman with blue eyes, by {}", "a blue-eyed {}")
CARRIERS += ("a man with {}", "a dog wearing a {}", "a girl with brown hair in the {}")
CARRIERS += ("a dog in the snow, by {}", "a woman at night in the style of {}", "a kitten in the city, painted by {}")


@torch.no_grad()
def word_vectors(pipe, words, carriers=CARRIERS) -> torch.Tensor:
    """Return the text encoder's output at each word at the end of each sentence, [words, sentences, width].

    Where a word has several tokens, their outputs are averaged.
    """
    rows = []
    for word in words:
        texts = [carrier.format(word) for carrier in carriers]
        ids = pipe.tokenizer(texts, padding=True, return_tensors="pt").input_ids
        outputs = pipe.text_encoder(ids.to(pipe.device))[0].float().cpu()
        ends = (ids == pipe.tokenizer.eos_token_id).int().argmax(dim=1)
        pieces = len(pipe.tokenizer(word).input_ids) - 2  # without start and end
        rows.append(torch.stack([row[end - pieces : end].mean(dim=0) for row, end in zip(outputs, ends, strict=True)]))
    return torch.stack(rows)


def score_words(pipe) -> dict:
    """Return how near the words that the source names lie, and whether the painters can be told apart.

    For each family: the mean cosine inside it, of vectors centred over all known words, and how much nearer that is
    than to the others, each with a 95 % interval over the sentences. ``probe``: how often a linear reader, trained on
    half of the sentences, names the painter in the other half.
    """
    words = list(KNOWN)
    vectors = word_vectors(pipe, words)
    unit = torch.nn.functional.normalize(vectors - vectors.mean(dim=0), dim=-1)
    likeness = torch.einsum("asd,bsd->sab", unit, unit)
    scores = {name: _nearness(likeness, [words.index(word) for word in family]) for name, family in FAMILIES.items()}
    return scores | {"probe": probe(vectors[[words.index(word) for word in FAMILIES["painters"]]])}


def _nearness(likeness, family) -> dict:
    """Return the mean cosine inside a family and how far that lies above those to all others, over the sentences."""
    others = [place for place in range(likeness.shape[1]) if place not in family]
    pairs = [(one, other) for one in family for other in family if one < other]
    inside = torch.stack([likeness[:, one, other] for one, other in pairs]).mean(dim=0)
    outside = likeness[:, family][:, :, others].mean(dim=(1, 2))
    values = {"inside": inside, "nearer_than_others": inside - outside}
    return {name: _rounded(mean_interval(numbers), len(numbers)) for name, numbers in values.items()}


def _rounded(found, n) -> dict:
    mean, low, high = (round(value, 4) for value in found)
    return {"mean": mean, "n": n, "interval": [low, high]}


def probe(vectors) -> dict:
    """Return the share at which a linear reader names the word of vectors [words, sentences, D] in unseen sentences."""
    from sklearn.linear_model import LogisticRegression

    count = vectors.shape[1]
    labels = np.repeat(np.arange(len(vectors)), count)
    flat, train = vectors.flatten(0, 1).numpy(), np.tile(np.arange(count) % 2 == 0, len(vectors))
    reader = LogisticRegression(max_iter=1000).fit(flat[train], labels[train])
    right = reader.predict(flat[~train]) == labels[~train]
    return share(int(right.sum()), len(right))
