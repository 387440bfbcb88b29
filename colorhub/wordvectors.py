"""word2vec (Mikolov et al. 2013) on captions or any corpus, by gensim."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from colorhub.errors import DataError
from colorhub.vocabulary import tokens

EPOCHS, WINDOW = 30, 5


def read_corpus(path: Path) -> list[list[str]]:
    """The words of each line of a text file. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--corpus {path} is no text in UTF-8 that can be read ({error})."
        ) from None
    return [words for line in lines if (words := tokens(line))]


def word_vectors(
    sentences: Sequence[list[str]], *, skip_gram: bool, size: int, most: int, seed: int
) -> tuple[list[str], Tensor]:
    """The most frequent words and their vectors (words, size), the same for the same sentences.

    There are at most `most`: of words that are equally frequent all are taken, or none.

    The vectors are centred and scaled to a variance of 1: those of a small corpus are short and
    nearly alike, and a generator would not tell them apart. Raises DataError if there is no word.
    """
    from gensim.models import Word2Vec

    if not sentences:
        raise DataError("There is not one word to learn from: check --caption_column or --corpus.")
    model = Word2Vec(
        sentences,
        vector_size=size,
        window=WINDOW,
        min_count=1,
        max_final_vocab=most,
        sg=int(skip_gram),
        epochs=EPOCHS,
        seed=seed % 2**32,
        workers=1,
    )
    vectors = torch.from_numpy(model.wv.vectors.copy())
    vectors = vectors - vectors.mean(dim=0) if len(vectors) > 1 else vectors
    return list(model.wv.index_to_key), vectors / vectors.std().clamp_min(1e-8)
