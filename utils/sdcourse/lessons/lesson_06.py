"""Words as vectors: the lists of lesson 06, their static and contextual vectors, cosines, and maps in two dimensions.

Everything takes the pipeline's own tokenizer and text encoder, so it works on Stable Diffusion 1.5 as well.
"""

import json
import math
import re
import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from sdlab import SdlabError
from sdlab.compat import text_transformer

# kind -> meanings; the words of one meaning may stand for each other in our captions (see sdcourse.portraits.captions)
KINDS = {
    "people": (("man", "gentleman", "guy"), ("woman", "lady", "girl")),
    "animals": (("cat", "kitty", "kitten"), ("dog", "hound", "puppy")),
    "places": (
        ("forest", "woods", "trees"),
        ("beach", "sea"),
        ("night", "stars", "moonlight"),
        ("city", "buildings"),
        ("snow", "snowy", "winter"),
    ),
    "colours": (
        ("red", "ginger"),
        ("purple", "violet"),
        ("gray", "silver"),
        ("golden", "blond"),
        *((color,) for color in ("blue", "green", "yellow", "orange", "white", "black", "brown", "amber")),
    ),
    "painters": (("Monet",), ("Manet",), ("Degas",), ("Lichtenstein",)),
    "never seen": tuple((word,) for word in ("invoice", "gravity", "violin", "justice", "teapot", "algebra", "onion")),
}
# every word is put into every one of these, so that the sentence cannot make the families
CARRIERS = (
    *("a {}", "a cartoon of a {}", "a drawing of a {}", "a painting by Monet of a {}", "a portrait by Manet of a {}"),
    *("a Degas painting of a {}", "a blue-eyed {}", "a man with {} eyes", "a cat with {} eyes", "a dog with {} fur"),
    *("a girl with {} hair", "a woman wearing a {} shirt", "a man wearing a {} hat", "a kitten in a {} hat"),
    *("a dog wearing a {} shirt", "a man in the {}", "a cat in the {}", "a woman with blue eyes in the {}"),
    *("a dog wearing a red shirt in the {}", "a girl with brown hair in the {}", "a man wearing a red hat by the {}"),
    *("a man, painted by {}", "a cat in the style of {}", "a woman with blue eyes, by {}", "a {} painting"),
)
_OPENINGS = ("a", "a cartoon of a", "a drawing of a", "a painting by Monet of a", "a portrait by Degas of a")
_LOOKS = ("", "blue-eyed", "green-eyed", "brown-eyed", "black-haired", "blond-haired", "red-haired", "gray-haired")
PERSON_CARRIERS = tuple(f"{opening} {look} {{}}".replace("  ", " ") for opening, look in product(_OPENINGS, _LOOKS))


@dataclass(frozen=True)
class Word:
    """A word, the kind of thing it names, and its meaning: the first of the words that may stand for each other."""

    text: str
    kind: str
    meaning: str


@dataclass(frozen=True)
class Projection:
    """Points float [N, 2] of vectors; ``trust`` (0 to 1) says how many neighbours on the map are real ones."""

    points: np.ndarray
    method: str
    seed: int
    trust: float


def word_list(*kinds: str) -> list[Word]:
    """Return the words of ``kinds`` (by default of all ``KINDS``)."""
    for kind in kinds:
        if kind not in KINDS:
            raise SdlabError(f"There is no kind of words {kind!r}: choose from {', '.join(KINDS)}.")
    return [Word(text, kind, meaning[0]) for kind in kinds or KINDS for meaning in KINDS[kind] for text in meaning]


def merge_rules(tokenizer) -> dict[tuple[str, str], int]:
    """Return the byte-pair rules of a CLIP tokenizer: pair of pieces -> rank; the lowest rank is applied first."""
    if hasattr(tokenizer, "bpe_ranks"):  # the Python tokenizer of transformers 4
        return dict(tokenizer.bpe_ranks)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in merges]
    return {pair: rank for rank, pair in enumerate(pairs)}


def byte_characters(word: str) -> str:
    """Return one printable character for each UTF-8 byte of ``word``, as byte-level BPE writes it (GPT-2's table).

    >>> byte_characters("cat")
    'cat'
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {number: chr(number) for number in plain}
    for number in range(256):
        table.setdefault(number, chr(256 + len(table) - len(plain)))
    return "".join(table[number] for number in word.encode("utf-8"))


@torch.no_grad()
def attention_input_and_output(pipe, input_ids: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what enters and leaves the self-attention of text layer ``layer``, each [batch, tokens, width]."""
    seen = {}

    def remember(_module, args, kwargs, output):
        seen["input"] = args[0] if args else kwargs["hidden_states"]
        seen["output"] = output[0] if isinstance(output, tuple) else output

    module = text_transformer(pipe.text_encoder).encoder.layers[layer].self_attn
    handle = module.register_forward_hook(remember, with_kwargs=True)
    try:
        pipe.text_encoder(input_ids.to(pipe.device))
    finally:
        handle.remove()
    return seen["input"], seen["output"]


def static_vectors(pipe, words) -> torch.Tensor:
    """Return rows of the embedding table [N, width], before any context; the mean where a word has several pieces."""
    table = pipe.text_encoder.get_input_embeddings().weight.detach()
    return torch.stack([table[_pieces(pipe, word)].mean(dim=0) for word in words]).float().cpu()


@torch.no_grad()
def contextual_vectors(pipe, words, carriers=CARRIERS) -> torch.Tensor:
    """Return the text encoder's output at each word in each sentence, [N, sentences, width].

    carriers: sentences with {} where the word goes. Where a word has several pieces, their outputs are averaged.
    """
    for carrier in carriers:
        if not re.fullmatch(r"(.*\s)?\{\}(\W.*)?", carrier) or carrier.count("{}") != 1:
            raise SdlabError(
                f"The carrier {carrier!r} must have {{}} once, with spaces around it, where the word goes."
            )
    starts = [len(pipe.tokenizer(carrier.split("{}")[0]).input_ids) - 1 for carrier in carriers]
    return torch.stack([_vectors_of(pipe, word, carriers, starts) for word in words])


def _vectors_of(pipe, word, carriers, starts) -> torch.Tensor:
    pieces = _pieces(pipe, word)
    texts = [carrier.split("{}")[0] + word for carrier in carriers]  # what follows cannot matter: the mask is causal
    input_ids = pipe.tokenizer(texts, padding=True, return_tensors="pt").input_ids
    outputs = pipe.text_encoder(input_ids.to(pipe.device))[0].float().cpu()
    rows = []
    for row, start in enumerate(starts):
        found = input_ids[row, start : start + len(pieces)].tolist()
        if found != pieces:
            raise SdlabError(f"{word!r} is not read as a word of its own in {carriers[row]!r}: put spaces around {{}}.")
        rows.append(outputs[row, start : start + len(pieces)].mean(dim=0))
    return torch.stack(rows)


def _pieces(pipe, word) -> list[int]:
    pieces = pipe.tokenizer(word).input_ids[1:-1]
    if not pieces:
        raise SdlabError(f"{word!r} has no letters for the tokenizer: give a word.")
    return pieces


def cosine(vectors: torch.Tensor, *, centred: bool = False) -> torch.Tensor:
    """Return the cosines [N, N] of the angles between vectors [N, width]; ``centred`` takes their mean off first."""
    unit = torch.nn.functional.normalize(vectors - vectors.mean(dim=0) if centred else vectors, dim=1)
    return unit @ unit.T


def off_diagonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return the entries of a square matrix [N, N] that pair different things, [N * (N - 1)]."""
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


def nearest(similarity: torch.Tensor) -> list[int]:
    """Return for each row of ``similarity`` [N, N] the index of the most similar other one."""
    others = similarity.clone().fill_diagonal_(-math.inf)
    return others.argmax(dim=1).tolist()


def project(vectors: torch.Tensor, method: str = "umap", *, seed: int = 0, neighbours: int = 5) -> Projection:
    """Place vectors [N, width] on a plane, after centring them and bringing them to length 1.

    method: "umap" (McInnes, Healy, Melville 2018), "pca" (the two directions of largest variance), or "random" places.
    trust: Venna and Kaski's trustworthiness (2001) for ``neighbours`` nearest points.
    """
    from sklearn.manifold import trustworthiness

    if len(vectors) <= 2 * neighbours:
        raise SdlabError(f"{len(vectors)} vectors are too few for a map with {neighbours} neighbours.")
    unit = torch.nn.functional.normalize(vectors - vectors.mean(dim=0), dim=1).double().numpy()
    if method == "pca":
        centred = unit - unit.mean(axis=0)
        points = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    elif method == "umap":
        points = _umap(unit, seed, neighbours)
    elif method == "random":
        points = np.random.default_rng(seed).normal(size=(len(unit), 2))
    else:
        raise SdlabError(f"There is no method {method!r}: use 'umap', 'pca' or 'random'.")
    return Projection(points, method, seed, float(trustworthiness(unit, points, n_neighbors=neighbours)))


def _umap(unit: np.ndarray, seed: int, neighbours: int) -> np.ndarray:
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():  # about libraries that are not installed, and islands that are not connected
            warnings.simplefilter("ignore")
            from umap import UMAP

            return UMAP(n_neighbors=neighbours, min_dist=0.3, random_state=seed, n_jobs=1).fit_transform(
                unit.astype(np.float32)
            )
    finally:
        torch.set_num_threads(threads)  # Numba, inside UMAP, has given torch all cores, whatever was asked for


def centre_distances(points, words: list[Word]) -> np.ndarray:
    """Return the distances between the centres of all pairs of meanings, [pairs], for points or vectors [N, any]."""
    points, meanings = np.asarray(points), list(dict.fromkeys(word.meaning for word in words))
    centres = [points[[word.meaning == meaning for word in words]].mean(axis=0) for meaning in meanings]
    return np.array([np.linalg.norm(one - two) for i, one in enumerate(centres) for two in centres[i + 1 :]])


def rank_agreement(one, two) -> float:
    """Return Spearman's rank correlation of two lists of numbers: 1 for the same order, 0 for none."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, two)]
    return float(np.corrcoef(*ranks)[0, 1])


def pair_groups(similarity: torch.Tensor, words: list[Word]) -> dict[str, list[float]]:
    """Return the similarities of all pairs of words, grouped by how their meanings are related."""
    groups = {"same meaning": [], "same kind, another meaning": [], "different kinds": [], "one or both never seen": []}
    for row, one in enumerate(words):
        for column, two in enumerate(words[:row]):
            if "never seen" in (one.kind, two.kind):
                name = "one or both never seen"
            elif one.kind != two.kind:
                name = "different kinds"
            else:
                name = "same meaning" if one.meaning == two.meaning else "same kind, another meaning"
            groups[name].append(similarity[row, column].item())
    return groups
