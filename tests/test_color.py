import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2lab

from colorhub.color import lab_to_levels, lab_to_rgb, lightness_of, rgb_to_lab


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_levels_are_those_of_the_whole_conversion(dtype):
    white = torch.iinfo(dtype).max
    lab = rgb_to_lab(torch.rand(1, 3, 90, 80))[0]
    expected = (lab_to_rgb(lab[None])[0] * white).round()
    levels = lab_to_levels(lab[0], lab[1:], dtype)
    assert levels.dtype == dtype
    assert (levels.int() - expected).abs().max() <= (1 if dtype == torch.uint8 else 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_every_grey_stays_as_it_is(dtype):
    grey = torch.arange(torch.iinfo(dtype).max + 1).to(dtype)[None]
    levels = lab_to_levels(lightness_of(grey), torch.zeros(2, grey.shape[1]), dtype)
    assert (levels.int() - grey.int()).abs().max() <= (0 if dtype == torch.uint8 else 2)


def test_conversions_are_differentiable_everywhere():
    rgb = torch.rand(1, 3, 8, 8)
    rgb[..., :2] = 0.0  # black: where a naive cube root has an infinite slope
    rgb.requires_grad_()
    lab_to_rgb(rgb_to_lab(rgb)).sum().backward()
    assert torch.isfinite(rgb.grad).all()
    # There and back is the identity, so the gradient of the sum is one.
    torch.testing.assert_close(rgb.grad, torch.ones_like(rgb), atol=1e-3, rtol=0)


def lab_of(levels: torch.Tensor) -> torch.Tensor:
    return rgb_to_lab(levels.double()[None] / torch.iinfo(levels.dtype).max)[0]


def test_colours_outside_of_srgb_keep_lightness_and_hue():
    lightness, ab = torch.rand(300, 300) * 100, (torch.rand(2, 300, 300) - 0.5) * 240
    beyond = ((rgb := lab_to_rgb(torch.cat((lightness[None], ab))[None])[0]) < 0) | (rgb > 1)
    assert 0.5 < beyond.any(0).float().mean() < 0.95
    for dtype, drift in ((torch.uint8, 0.5), (torch.uint16, 0.2)):
        fitted = lab_of(lab_to_levels(lightness, ab, dtype))
        clear = lightness > 2  # where a level is less than half a unit of L
        assert (fitted[0] - lightness)[clear].abs().max() < drift
        assert (fitted[1:].norm(dim=0) <= ab.norm(dim=0) + 2)[clear].all()
    cosine = torch.cosine_similarity(fitted[1:], ab.double(), dim=0)
    visible = fitted[1:].norm(dim=0) > 10
    assert cosine[visible].min() > 0.99  # 8 degrees: half a level of 8 bits, at little chroma
    assert cosine[visible].mean() > 0.9999


def test_no_more_chroma_is_lost_than_must_be():
    hues = torch.linspace(0, 6.28, 200)
    for lightness in (20.0, 50.0, 80.0, 95.0):
        light = torch.full((200,), lightness)
        ab = 150 * torch.stack((hues.cos(), hues.sin()))
        fitted = lab_of(lab_to_levels(light, ab, torch.uint16)).float()
        fitted[1:] *= 1.01
        rgb = lab_to_rgb(torch.cat((light[None], fitted[1:]))[None, :, None])[0, :, 0]
        assert ((rgb < 0) | (rgb > 1)).any(0).float().mean() >= 0.99
