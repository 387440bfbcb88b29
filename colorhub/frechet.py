"""How far pictures are from real ones, by what a classifier of digits sees in them."""

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub import weights
from colorhub.classifiers import ResNet34
from colorhub.errors import OptionError

_BATCH = 250
_SIDE = 28  # pixels, as the classifier was taught


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """The Frechet distance of normal distributions fitted to features (N, D) and (M, D).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, equation 6), in fp64. It is the
    larger the fewer features there are: compare distances of the same numbers.
    """
    means, covariances = [], []
    for features in (one.double(), other.double()):
        means.append(features.mean(0))
        covariances.append(features.T.cov())
    first, second = covariances
    root = _root(first)
    # (C1 C2)^(1/2) has the eigenvalues of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2).
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    gap = (means[0] - means[1]).square().sum()
    return max(0.0, (gap + first.trace() + second.trace() - 2 * cross).item())


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


class DigitJudge:
    """A classifier of digits by train/classifier.py, and what it sees in real digits.

    `real` are pictures (N, C, R, R) in [-1, 1]. Raises VariantError or OptionError if the folder
    holds no such classifier.
    """

    def __init__(self, folder: str | os.PathLike[str], real: Tensor) -> None:
        self.network = weights.load(folder, {"ResNet34": ResNet34})
        if self.network.config.classes != 10:
            raise OptionError(f"{folder} tells no digits: give a run of train/classifier.py digits")
        self._head = self.network.fc
        self.network.fc = nn.Identity()  # what remains gives the features
        self.real = self.features(real)

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """(N, C, R, R) in [-1, 1], on the CPU, to the last maps' means (N, D)."""
        found = []
        for batch in pictures.split(_BATCH):
            grey = (batch.mean(1, keepdim=True) + 1) / 2
            if grey.shape[-1] != _SIDE:
                grey = F.interpolate(grey, (_SIDE, _SIDE), mode="area")
            found.append(self.network(grey).float())
        return torch.cat(found)

    def distance(self, pictures: Tensor) -> float:
        """Frechet distance of pictures (N, C, R, R) in [-1, 1] to the real digits."""
        return self.distance_of(self.features(pictures))

    def distance_of(self, features: Tensor) -> float:
        """The same from features (N, D)."""
        return frechet_distance(features, self.real)

    @torch.no_grad()
    def shares(self, features: Tensor) -> list[float]:
        """How often each of the ten digits is seen, from features (N, D)."""
        answers = self._head(features).argmax(1)
        return (torch.bincount(answers, minlength=10) / len(answers)).tolist()
