"""The Frechet distance, by cases worked out by hand, and a classifier's view of digits."""

import pytest
import torch

from colorhub import weights
from colorhub.classifiers import ResNet34
from colorhub.frechet import DigitJudge, frechet_distance


def test_the_same_features_are_no_distance_apart():
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-6)


def test_a_shift_is_its_square():
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 0, 4, 0])
    assert frechet_distance(features, features + shift) == pytest.approx(25, rel=1e-5)


def test_spread_counts_by_the_difference_of_deviations():
    # Along each axis, independent of the others: (s1 - s2)^2 of the standard deviations.
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 2)
    one, other = signs * torch.tensor([1.0, 2.0]), signs * torch.tensor([4.0, 2.0])
    unbiased = 4 / 3  # of four points
    assert frechet_distance(one, other) == pytest.approx(unbiased * (4 - 1) ** 2)


def test_turned_features_differ_although_no_axis_is_wider():
    # Covariances [[1, r], [r, 1]] and [[1, -r], [-r, 1]] commute: eigenvalues 1 + r and 1 - r
    # swap places, so the distance is 2 (sqrt(1 + r) - sqrt(1 - r))^2.
    x = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = 0.6
    one = torch.stack([x[:, 0], r * x[:, 0] + (1 - r * r) ** 0.5 * x[:, 1]], dim=1)
    other = one * torch.tensor([1.0, -1.0])
    expected = 2 * ((1 + r) ** 0.5 - (1 - r) ** 0.5) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected, rel=0.02)


def test_a_judge_tells_real_from_others_and_counts_digits(tmp_path):
    torch.manual_seed(0)
    weights.save(ResNet34(ResNet34.Config(classes=10, width=2)), tmp_path)
    real = torch.rand(40, 1, 28, 28) * 2 - 1
    judge = DigitJudge(tmp_path, real)
    assert judge.features(real).shape == (40, 16)
    assert judge.distance(real) == pytest.approx(0, abs=1e-6)
    assert judge.distance(-torch.ones(40, 1, 28, 28)) > 0
    shares = judge.shares(judge.features(real))
    assert len(shares) == 10 and sum(shares) == pytest.approx(1)
    colour = real.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)
    torch.testing.assert_close(judge.features(colour), judge.real)
