"""Train the BPE tokenizer on captions and save it as a CLIPTokenizer: lower case, </w>, 77 positions."""

import hashlib
import json
import unicodedata
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from sdlab import SdlabError

from ..portraits.captions import caption_corpus

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MAX_LENGTH = 77


def train_tokenizer(folder, *, n=60_000, vocabulary=740, seed=0, world=None):
    """Learn `vocabulary` tokens from n captions of a world; return the CLIPTokenizer saved in `folder`.

    Bytes are the smallest pieces, so any text of any language has tokens and none is unknown.
    """
    captions = caption_corpus(n, seed, world=world)
    vocab, merges = learn_merges(captions, vocabulary=vocabulary)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=MAX_LENGTH,
    )
    save_tokenizer(tokenizer, folder)
    loaded = load_tokenizer(folder)
    _check(tokenizer, loaded, captions[:200])
    return loaded


def load_tokenizer(folder):
    """Load a CLIPTokenizer from a folder, without touching the network."""
    if not (Path(folder) / "tokenizer_config.json").exists():
        raise SdlabError(
            f"There is no tokenizer in {folder}; train one with: sdlab train tokenizer --out {folder}"
        )
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def learn_merges(captions, *, vocabulary):
    """Return (vocab, merges) of a byte-level BPE, in CLIP's order: bytes, bytes</w>, merges, marks."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    clean = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    learner.normalizer = normalizers.Sequence(clean)
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = byte_characters()
    room = vocabulary - len(alphabet) - 2
    if room <= len(alphabet):
        raise SdlabError(
            f"A vocabulary of {vocabulary} is too small: {2 * len(alphabet) + 2} tokens are bytes and marks."
        )
    trainer = trainers.BpeTrainer(
        vocab_size=room, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(captions, trainer=trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    pieces = alphabet + [character + "</w>" for character in alphabet] + ["".join(pair) for pair in merges]
    pieces = list(dict.fromkeys(pieces))[: vocabulary - 2]
    kept = set(pieces)
    merges = [pair for pair in merges if "".join(pair) in kept]
    return {piece: index for index, piece in enumerate([*pieces, START, END])}, merges


def byte_characters():
    """Return the 256 printable characters that stand for bytes in byte-level BPE, in CLIP's order."""
    printable = set(pre_tokenizers.ByteLevel.alphabet())
    plain = sorted(character for character in printable if ord(character) < 256)
    return plain + sorted(printable - set(plain))


def decode(tokenizer, text):
    """Return what is left of a text after encoding and decoding it."""
    return tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip()


def save_tokenizer(tokenizer, folder):
    """Save a tokenizer, with the readable vocab.json and merges.txt beside tokenizer.json."""
    folder = Path(folder)
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(
        json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tokenize(tokenizer, texts):
    """Return token ids [B, 77] of texts as the pipeline makes them."""
    length = tokenizer.model_max_length
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def tokenizer_hash(tokenizer):
    """Return a short hash of the vocabulary and merges."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    text = json.dumps([sorted(model["vocab"].items()), model["merges"]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(before, after, captions):
    for text in captions:
        if before(text).input_ids != after(text).input_ids:
            raise SdlabError(
                f"The saved tokenizer reads '{text}' unlike the trained one; try another transformers."
            )
        if _letters(decode(after, text)) != _letters(text):
            raise SdlabError(f"The tokenizer does not give '{text}' back, but '{decode(after, text)}'.")


def _letters(text):
    return "".join(unicodedata.normalize("NFC", text).lower().split())
