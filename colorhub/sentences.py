"""The task of train/text2image.py: captions to pictures; its samples and its figures."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from colorhub import weights
from colorhub.captions import all_captions, captions_of, middle, unpack
from colorhub.conditioning import figures, tables
from colorhub.data import Rows, decode_row, guarded, rows_of
from colorhub.errors import DataError
from colorhub.generators import KINDS
from colorhub.options import Options
from colorhub.painting import sheet
from colorhub.provenance import dataset_facts
from colorhub.vocabulary import Vocabulary, tokens

SAMPLES = 6  # sentences on a sheet of samples


class Sentences:
    """Batches of (words, pictures); `examples` are the sentences that samples show."""

    def __init__(self, config: Options, column: str, examples: Sequence[str]) -> None:
        self.config = config
        self.column = column
        self.examples = examples[:SAMPLES]

    def batch(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(words (N, 25), pictures (N, 3, R, R) in [-1, 1])."""
        return unpack(photos)

    def statistics(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """None."""
        return {}

    def samples(self, generator: Any, device: str) -> Image.Image:
        """The example sentences, a row each: the picture after every word."""
        return sheet(generator.eval(), self.examples, device=device)

    def measure(self, folder: Path, split: str, device: str) -> tuple[dict[str, Any], ...]:
        """How the variant follows the captions of a split. Raises DataError."""
        generator = weights.load(folder, KINDS["text"]).to(device)
        rows = rows_of(self.config, split, (self.column,))
        training = rows_of(self.config, self.config.train_split, (self.column,))
        seen = {" ".join(tokens(each)) for each in all_captions(training, self.column)}
        held_back = held_back_pairs(
            rows, self.column, generator.config, most=self.config.max_validation_images
        )
        found = figures(generator, *held_back, seen, device=device)
        facts = dataset_facts(self.config.dataset_name, split, rows)
        return facts, {"tables": tables({"this variant": found})}


def held_back_pairs(
    rows: Rows, column: str, network: Any, *, most: int
) -> tuple[list[str], Tensor]:
    """The first captions with a word that is known, and their pictures' middles.

    Gives N sentences and (N, 3, R, R) in [-1, 1]. Raises DataError if there is none.
    """
    vocabulary = Vocabulary(network.vocabulary.split())
    side = network.resolution
    sentences, pictures = [], []
    for row in islice(guarded(rows), most):
        captions = [each for each in captions_of(row[column]) if vocabulary.known(each)]
        if captions:
            sentences.append(captions[0])
            pictures.append(np.asarray(middle(decode_row(row), side)))
    if not sentences:
        raise DataError("No caption to measure on has a word that is known.")
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return sentences, stacked.float() / 127.5 - 1
