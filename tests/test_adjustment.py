"""Colours as they are adjusted."""

import pytest
import torch

from colorhub.adjustment import Adjustment
from colorhub.errors import OptionError


def chroma(ab):
    return ab.norm(dim=1)


def test_as_it_comes_nothing_changes():
    ab = torch.randn(1, 2, 5, 6) * 30
    assert torch.equal(Adjustment()(ab), ab)


def test_no_strength_is_grey_whatever_else_is_set():
    ab = torch.randn(1, 2, 5, 6) * 30
    assert Adjustment(strength=0, saturation=2, warmth=1, gain=2)(ab).abs().max() == 0


def test_gain_and_strength_scale_all_colours_alike():
    ab = torch.randn(1, 2, 5, 6) * 30
    torch.testing.assert_close(Adjustment(strength=1.5, gain=2)(ab), 3 * ab)


def test_saturation_lifts_pale_colours_more_and_keeps_the_hue():
    ab = torch.tensor([[3.0, 4.0], [45.0, 60.0]]).T[None, :, None]
    more = chroma(Adjustment(saturation=2)(ab)) / chroma(ab)
    assert 1.8 < more[0, 0, 0] < 2 and 1 < more[0, 0, 1] < 1.15
    torch.testing.assert_close(
        torch.nn.functional.normalize(Adjustment(saturation=2)(ab)),
        torch.nn.functional.normalize(ab),
    )
    assert chroma(Adjustment(saturation=0)(ab))[0, 0, 0] < 1


def test_warmth_moves_from_blue_to_orange():
    grey = torch.zeros(1, 2, 1, 1)
    warm, cold = Adjustment(warmth=1)(grey).flatten(), Adjustment(warmth=-1)(grey).flatten()
    assert warm[1] > 10 and cold[1] < -10 and warm[0] > 0
    assert chroma(Adjustment(warmth=0.5)(grey)) < 10


@pytest.mark.parametrize(
    "wrong", [{"strength": -1}, {"saturation": float("nan")}, {"gain": float("inf")}, {"warmth": 2}]
)
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Adjustment(**wrong)
