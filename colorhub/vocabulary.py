"""Sentences as the numbers of their words."""

import re
from collections.abc import Iterable

WORDS = 25
"""Words of a sentence (section 4 of the paper)."""

_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")  # colt's and globe-flower are one word each


def tokens(sentence: str) -> list[str]:
    """The words of a sentence, in lower case, without punctuation around them."""
    return _WORD.findall(sentence.lower().replace(_APOSTROPHE, "'"))


class Vocabulary:
    """Known words and their numbers, from 1; 0 is the blank before a short sentence."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def known(self, sentence: str) -> list[str]:
        """The sentence's first 25 words that are known; others are passed over."""
        return [word for word in tokens(sentence) if word in self][:WORDS]

    def unknown(self, sentence: str) -> list[str]:
        """The sentence's other words, each once."""
        return list(dict.fromkeys(word for word in tokens(sentence) if word not in self))

    def ids(self, words: list[str]) -> list[int]:
        """25 numbers: blanks, then those of the words, so that the last of them is the 25th."""
        numbers = [self._numbers[word] for word in words]
        return [0] * (WORDS - len(numbers)) + numbers
