"""Colours as classes: what sRGB can show, and there and back."""

import warnings

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab

from colorhub import palette


def index_of(a, b):
    return int((palette.colours() == torch.tensor([a, b])).all(1).nonzero())


def test_the_colours_are_those_of_a_grid_that_srgb_can_show():
    colours = palette.colours()
    assert torch.equal(colours % palette.STEP, torch.zeros_like(colours))
    assert len(colours.unique(dim=0)) == len(colours)
    # There and back by scikit-image, which clips: at some lightness nothing is lost.
    lightness = np.arange(1.0, 100.0)
    lab = np.stack(np.broadcast_arrays(lightness[:, None], *colours.numpy().T), axis=2)
    with warnings.catch_warnings(action="ignore"):  # that it clips
        back = rgb2lab(lab2rgb(lab))
    assert np.abs(back - lab).max(axis=2).min(axis=0).max() < 0.5


def test_every_colour_of_srgb_is_near_one_of_them():
    levels = np.linspace(0, 1, 18)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3)
    ab = torch.from_numpy(rgb2lab(rgb)[:, 0, 1:]).float()
    nearest = torch.cdist(ab, palette.colours()).amin(1)
    # Half a step's diagonal is 7.1; the gamut's corners, the blue above all, lie beyond the grid.
    assert nearest.max() < 1.5 * palette.STEP and (nearest < 7.1).float().mean() > 0.97


def test_shares_are_those_of_a_gaussian_over_the_five_nearest():
    shares = palette.encode(torch.zeros(1, 2, 1, 1))[0, :, 0, 0]
    # Grey itself and its four neighbours, 10 units away: exp(-100 / 50) of its share each.
    far = np.exp(-2.0) / (1 + 4 * np.exp(-2.0))
    for a, b in ((10, 0), (-10, 0), (0, 10), (0, -10)):
        assert shares[index_of(a, b)].item() == pytest.approx(far, rel=1e-4)
    assert shares[index_of(0, 0)].item() == pytest.approx(1 - 4 * far, rel=1e-4)
    assert (shares > 0).sum() == 5


def test_shares_add_up_to_one_and_a_colour_is_mostly_itself():
    torch.manual_seed(0)
    ab = torch.randn(2, 2, 5, 7) * 40
    torch.testing.assert_close(palette.encode(ab).sum(1), torch.ones(2, 5, 7))
    grid = palette.colours().T[None, :, :, None]  # as a picture of Q x 1 pixels
    shares = palette.encode(grid)[0, :, :, 0]
    assert torch.equal(shares.argmax(0), torch.arange(len(palette.colours())))
    assert shares.diagonal().min() > 0.5


def test_neighbours_lie_where_their_pixel_does():
    ab = torch.tensor([[20.0, 30.0], [-40.0, 10.0]]).T.view(1, 2, 1, 2).repeat(2, 1, 3, 1)
    ab[1] = ab[1].flip(2)
    classes = palette.encode(ab).argmax(1)
    first, second = index_of(20, 30), index_of(-40, 10)
    assert classes.tolist() == [[[first, second]] * 3, [[second, first]] * 3]


def test_a_certain_class_is_its_colour():
    logits = torch.full((1, len(palette.colours()), 1, 2), -100.0)
    logits[0, index_of(50, -20), 0, 0] = logits[0, index_of(-30, 40), 0, 1] = 0.0
    ab = palette.annealed_mean(logits)
    torch.testing.assert_close(ab[0, :, 0].T, torch.tensor([[50.0, -20.0], [-30.0, 40.0]]))


def test_a_low_temperature_goes_from_the_mean_to_the_mode():
    logits = torch.full((1, len(palette.colours()), 1, 1), -100.0)
    logits[0, index_of(60, 0)], logits[0, index_of(0, 0)] = np.log(3.0), 0.0
    for temperature in (1.0, 0.5, 0.38):
        # Shares of 3 : 1 at temperature 1, of 3^(1/T) : 1 at T.
        share = 3 ** (1 / temperature) / (1 + 3 ** (1 / temperature))
        a, b = palette.annealed_mean(logits, temperature=temperature)[0, :, 0, 0].tolist()
        assert a == pytest.approx(60 * share, rel=1e-5) and b == pytest.approx(0, abs=1e-4)
    assert palette.annealed_mean(logits, temperature=0.01)[0, 0].item() == pytest.approx(60)
    given = palette.annealed_mean(logits)
    assert torch.equal(given, palette.annealed_mean(logits, temperature=0.38))
