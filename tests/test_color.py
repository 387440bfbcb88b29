import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2lab

from colorhub.color import fit_gamut, lab_to_levels, lab_to_rgb, lightness_of, rgb_to_lab


def to_batch(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "retina", "random"])
def test_lab_agrees_with_scikit_image(name):
    if name == "random":
        rgb = np.random.default_rng(0).random((200, 300, 3))
    else:
        rgb = getattr(data, name)() / 255
    ours = rgb_to_lab(to_batch(rgb))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - rgb2lab(rgb)).max() < 1e-3


def test_known_colours_have_their_known_lab():
    # Values of the sRGB primaries under D65, as scikit-image 0.26 gives them.
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    lab = rgb_to_lab(colors.T[None, :, :, None])[0, :, :, 0].T
    expected = [[53.2406, 80.0923, 67.2032], [87.7351, -86.1829, 83.1797]]
    expected += [[32.2957, 79.1856, -107.8573], [100, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(lab, torch.tensor(expected), atol=0.01, rtol=0)


def test_every_8_bit_colour_comes_back_within_one_level():
    green, blue = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    worst = 0
    for red in range(256):
        levels = torch.stack((torch.full_like(green, red), green, blue))[None]
        back = (lab_to_rgb(rgb_to_lab(levels / 255)).clamp(0, 1) * 255).round()
        worst = max(worst, int((back - levels).abs().max()))
    assert worst <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_lightness_by_table_is_that_of_the_whole_conversion(dtype):
    white = torch.iinfo(dtype).max
    levels = torch.randint(0, white + 1, (3, 50, 60)).to(dtype)
    expected = rgb_to_lab(levels.float()[None] / white)[0, 0]
    torch.testing.assert_close(lightness_of(levels), expected, atol=0.01, rtol=0)
    grey = levels[:1]
    expected = rgb_to_lab(grey.float()[None].expand(-1, 3, -1, -1) / white)[0, 0]
    torch.testing.assert_close(lightness_of(grey), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("chroma", [20, 120])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.uint8, 1), (torch.uint16, 2)])
def test_levels_are_those_of_the_whole_conversion(chroma, dtype, tolerance):
    white = torch.iinfo(dtype).max
    lightness, ab = torch.rand(80, 90) * 100, (torch.rand(2, 80, 90) - 0.5) * 2 * chroma
    lab = fit_gamut(torch.cat((lightness[None], ab))[None])
    expected = (lab_to_rgb(lab)[0].clamp(0, 1) * white).round()
    levels = lab_to_levels(lightness, ab, dtype)
    assert levels.dtype == dtype
    assert (levels.int() - expected).abs().max() <= tolerance


def test_conversions_are_differentiable_everywhere():
    rgb = torch.rand(1, 3, 8, 8)
    rgb[..., :2] = 0.0  # black: where a naive cube root has an infinite slope
    rgb.requires_grad_()
    lab_to_rgb(rgb_to_lab(rgb)).sum().backward()
    assert torch.isfinite(rgb.grad).all()
    # There and back is the identity, so the gradient of the sum is one.
    torch.testing.assert_close(rgb.grad, torch.ones_like(rgb), atol=1e-3, rtol=0)


def test_a_colour_outside_of_srgb_keeps_its_lightness_and_hue():
    lab = torch.rand(1, 3, 64, 64) * torch.tensor([100.0, 240, 240]).view(1, 3, 1, 1)
    lab[:, 1:] -= 120
    fitted = fit_gamut(lab)
    rgb = lab_to_rgb(fitted)
    assert rgb.min() >= -0.5 / 255 - 1e-5 and rgb.max() <= 1 + 0.5 / 255 + 1e-5
    assert torch.equal(fitted[:, 0], lab[:, 0])
    cross = fitted[:, 1] * lab[:, 2] - fitted[:, 2] * lab[:, 1]
    assert cross.abs().max() < 1e-2  # same direction in the ab plane
    assert (fitted[:, 1:].norm(dim=1) <= lab[:, 1:].norm(dim=1) + 1e-4).all()


def test_colours_inside_of_srgb_are_left_alone():
    lab = rgb_to_lab(torch.rand(2, 3, 32, 32))
    assert torch.equal(fit_gamut(lab), lab)


def test_no_more_chroma_is_lost_than_must_be():
    lab = torch.tensor([50.0, 100.0, -100.0]).view(1, 3, 1, 1)
    fitted = fit_gamut(lab)
    a_little_more = fitted * torch.tensor([1, 1.002, 1.002]).view(1, 3, 1, 1)
    rgb = lab_to_rgb(a_little_more)
    assert rgb.min() < -0.5 / 255 or rgb.max() > 1 + 0.5 / 255
