"""What of a prompt reaches the picture: words the model knows, tokens that fit, and which tokens a word is.

One word can be several tokens, and stand more than once.
"""

import functools
import re
from pathlib import Path

from .arguments import check_text
from .compat import expand_tokens, quiet, text_parts
from .errors import SdlabError


def token_positions(pipe, prompt: str, word: str, *, occurrence: int | None = None) -> list[int]:
    """Return where the tokens of ``word`` stand among the tokens of ``prompt``; 0 is the start token.

    word: one word or several in a row ("blue eyes"), or the token of a textual inversion, which may be several.
    occurrence: 0 for the first, where it stands more than once.
    Raises SdlabError if it does not stand in the prompt (or was cut off), or more than once and none was chosen.
    """
    tokenizer, _encoder = text_parts(pipe)
    ids = read_ids(tokenizer, [prompt and check_text(prompt)])[0]
    return find_word(tokenizer, ids, word, occurrence=occurrence)


def read_ids(tokenizer, prompts: list[str]) -> list[list[int]]:
    """Return the token ids that the text encoder reads of each prompt: cut and padded to its length, 77."""
    texts = [expand_tokens(tokenizer, prompt) for prompt in prompts]
    length = {"max_length": tokenizer.model_max_length, "padding": "max_length", "truncation": True}
    with quiet(progress=True):
        return tokenizer(texts, **length).input_ids


def find_word(tokenizer, ids, word: str, *, occurrence: int | None = None) -> list[int]:
    """Return the positions of ``word`` in ``ids``, the token ids with start and end; see ``token_positions``."""
    words, asked = split_words(ids, tokenizer), read_ids(tokenizer, [word and check_text(word, "word")])[0]
    names, wanted = ([name for name, _positions in split] for split in (words, split_words(asked, tokenizer)))
    starts = [start for start in range(len(names)) if wanted and names[start : start + len(wanted)] == wanted]
    prompt = read_text(tokenizer, prompt_ids(tokenizer, ids))
    if not starts:
        choices = ", ".join(dict.fromkeys(names)) or "nothing"
        raise SdlabError(f"{word!r} is not in the prompt that was read, '{prompt}': choose from {choices}.")
    if len(starts) > 1 and occurrence is None:
        raise SdlabError(
            f"{word!r} stands {len(starts)} times in '{prompt}': say which with occurrence=0 to {len(starts) - 1}."
        )
    if occurrence is not None and occurrence not in range(-len(starts), len(starts)):
        raise SdlabError(f"{word!r} stands {len(starts)} times in '{prompt}': there is no occurrence={occurrence}.")
    first = starts[occurrence or 0]
    return [position for _name, positions in words[first : first + len(wanted)] for position in positions]


def split_words(ids, tokenizer=None) -> list[tuple[str, list[int]]]:
    """Return each word of a prompt, in its own letters, with the positions of its tokens in ``ids``; 0 is the start.

    All vectors of a textual inversion are one word.
    """
    if not len(ids):
        return []
    ids = prompt_ids(tokenizer, ids)
    names, added = tokenizer.convert_ids_to_tokens(ids), tokenizer.added_tokens_encoder
    words, at = [], 0
    while at < len(ids):
        end = at + 1
        if names[at] in added:
            while names[end : end + 1] == [f"{names[at]}_{end - at}"]:
                end += 1
            text = names[at]
        else:
            while not names[end - 1].endswith("</w>") and end < len(ids) and names[end] not in added:
                end += 1
            text = tokenizer.decode(ids[at:end]).strip()
        words.append((text, list(range(at + 1, end + 1))))  # the start token comes first
        at = end
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
    check_text(prompt)
    tokenizer, _encoder = text_parts(pipe)
    limit, sentences = tokenizer.model_max_length, []
    with quiet(progress=True):
        kept, cut = split_prompt(tokenizer, prompt)
    if not any(letter.isalnum() for letter in prompt):
        sentences.append(f"The prompt '{prompt}' has no letter and no number: the model can only guess.")
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
    return len(tokenizer.tokenize(expand_tokens(tokenizer, text))) + 2


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
