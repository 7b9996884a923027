"""Find a word among the tokens that a text encoder read: one word can be several tokens, and stand more than once."""

import re

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
