"""What of a prompt reaches the picture: words the model knows, tokens that fit, and which tokens a word is.

One word can be several tokens, and stand more than once.
"""

import functools
import re
from pathlib import Path

from .compat import quiet
from .errors import SdlabError


def token_positions(pipe, prompt: str, word: str, *, occurrence: int | None = None) -> list[int]:
    """Return where the tokens of ``word`` stand among the tokens of ``prompt``; 0 is the start token.

    word: one word or several in a row ("blue eyes"). occurrence: 0 for the first, where it stands more than once.
    Raises SdlabError if it does not stand in the prompt (or was cut off), or more than once and none was chosen.
    """
    ids = pipe.tokenizer(prompt, truncation=True, max_length=pipe.tokenizer.model_max_length).input_ids
    return find_word(pipe.tokenizer, ids, word, occurrence=occurrence)


def find_word(tokenizer, ids, word: str, *, occurrence: int | None = None) -> list[int]:
    """Return the positions of ``word`` in ``ids``, the token ids with start and end; see ``token_positions``."""
    ids, wanted = prompt_ids(tokenizer, ids), prompt_ids(tokenizer, tokenizer(word).input_ids)
    names = tokenizer.convert_ids_to_tokens(ids)
    starts = [
        start
        for start in range(len(ids) - len(wanted) + 1)
        if wanted and ids[start : start + len(wanted)] == wanted and (start == 0 or names[start - 1].endswith("</w>"))
    ]
    prompt = read_text(tokenizer, ids)
    if not starts:
        words = ", ".join(dict.fromkeys(text for text, _positions in split_words(names)))
        raise SdlabError(f"{word!r} is not in the prompt that was read, '{prompt}': choose from {words or 'nothing'}.")
    if len(starts) > 1 and occurrence is None:
        raise SdlabError(
            f"{word!r} stands {len(starts)} times in '{prompt}': say which with occurrence=0 to {len(starts) - 1}."
        )
    if occurrence is not None and not -len(starts) <= occurrence < len(starts):
        raise SdlabError(f"{word!r} stands {len(starts)} times in '{prompt}': there is no occurrence={occurrence}.")
    first = 1 + starts[occurrence or 0]  # the start token comes first
    return list(range(first, first + len(wanted)))


def split_words(names: list[str]) -> list[tuple[str, list[int]]]:
    """Return each word of a prompt with the positions of its tokens; ``names`` are the tokens without start and end.

    >>> split_words(["blue</w>", "un", "real</w>"])
    [('blue', [1]), ('unreal', [2, 3])]
    """
    words, text, positions = [], "", []
    for position, name in enumerate(names, start=1):
        text, positions = text + name, [*positions, position]
        if name.endswith("</w>") or position == len(names):
            words.append((text.removesuffix("</w>"), positions))
            text, positions = "", []
    return words


def prompt_ids(tokenizer, ids) -> list[int]:
    """Return the ids between the start token and the first end token: the words, without padding."""
    ids = [int(number) for number in ids][1:]
    return ids[: ids.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in ids else ids


def read_text(tokenizer, ids) -> str:
    """Return the text of token ids (without start, end and padding) as the text encoder read it."""
    return re.sub(r"\s+([,.!?])", r"\1", tokenizer.decode(list(ids)).strip())


class PromptWarning(UserWarning):
    """Something in the prompt will not reach the picture."""


def check_prompt(pipe, prompt: str) -> list[str]:
    """Return one sentence for each thing in ``prompt`` that will not reach the picture; empty if all does.

    Two things are found: words cut off because the text encoder reads only so many tokens (77 with start and
    end), and words that no training caption contains (where the model lists its words, as the pocket model does).
    Raises SdlabError for an empty prompt.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise SdlabError(f"prompt={prompt!r} is empty: say what to draw, for example 'a man with blue eyes'.")
    sentences = []
    limit = pipe.tokenizer.model_max_length
    with quiet(progress=True):
        kept, cut = split_prompt(pipe.tokenizer, prompt)
    if cut:
        sentences.append(
            f"The prompt is longer than the {limit} tokens the model reads; it ends after "
            f"'{_tail(kept)}', and this is cut off: '{cut}'."
        )
    unknown = unknown_words(kept, known_words(pipe.name_or_path))
    if unknown:
        sentences.append(
            f"In training the model has never seen {', '.join(map(repr, unknown))}: it can only guess."
        )
    return sentences


def split_prompt(tokenizer, prompt: str) -> tuple[str, str]:
    """Return the part of ``prompt`` that fits into the tokenizer's window, and the words that are cut off."""
    words = prompt.split()
    low, high = 0, len(words)
    while low < high:  # the largest number of words whose tokens, with start and end, fit
        middle = (low + high + 1) // 2
        if _count_tokens(tokenizer, " ".join(words[:middle])) <= tokenizer.model_max_length:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low]), " ".join(words[low:])


def _count_tokens(tokenizer, text: str) -> int:
    return len(tokenizer.tokenize(text)) + 2


def _tail(text: str, count: int = 3) -> str:
    return " ".join(text.split()[-count:])


@functools.cache
def known_words(folder: str | None) -> frozenset[str]:
    """Return the words of the training captions: ``words.txt`` in the model's folder; empty where there is none."""
    file = Path(folder or "") / "words.txt"
    return frozenset(file.read_text(encoding="utf-8").split()) if file.is_file() else frozenset()


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case, without punctuation; this is what ``words.txt`` lists.

    >>> words_of("A man, with blue eyes!")
    ['a', 'man', 'with', 'blue', 'eyes']
    """
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())


def unknown_words(text: str, known: frozenset[str]) -> list[str]:
    """Return the words of ``text`` that are not in ``known``, each once; none if nothing is known."""
    return [word for word in dict.fromkeys(words_of(text)) if known and word not in known]
