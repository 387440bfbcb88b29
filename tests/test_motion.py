"""Optical flow between frames, and how colours change along it."""

import numpy as np
import pytest
import torch
from PIL import Image

from colorhub.flicker import flicker
from colorhub.flow import grey
from colorhub.motion import change, flow_of, followed

pytest.importorskip("cv2")


def moving(frames=3, step=2, side=48):
    """Smooth lightness (1, T, 1, H, W) in [-1, 1] that moves left by `step` pixels a frame."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 14), dtype=np.uint8)
    wide = Image.fromarray(coarse).resize((2 * side, side), Image.Resampling.BICUBIC)
    picture = torch.from_numpy(np.array(wide)).float() / 127.5 - 1
    windows = [picture[:, step * t : step * t + side] for t in range(frames)]
    return torch.stack(windows)[None, :, None]


@pytest.mark.parametrize("side", [48, 12])
def test_the_flow_finds_how_far_a_picture_has_moved(side):
    flow, seen = flow_of(moving(step=2, side=side))
    assert flow.shape == (1, 2, 2, side, side) and seen.shape == (1, 2, 1, side, side)
    x, y = (flow[:, :, each][seen[:, :, 0]].median() for each in (0, 1))
    assert x == pytest.approx(-2, abs=0.3) and y == pytest.approx(0, abs=0.3)
    assert seen.float().mean() > 0.6
    assert not seen[..., 0].any()  # its left border has moved out of the picture


@pytest.mark.parametrize("size", [(3, 5), (20, 90)])
def test_frames_of_any_size_have_a_flow(size):
    flow, seen = flow_of(torch.rand(2, 3, 1, *size) * 2 - 1)
    assert flow.shape == (2, 2, 2, *size) and seen.shape == (2, 2, 1, *size)
    assert torch.isfinite(flow).all()


def test_following_the_flow_takes_a_pixel_s_value_from_where_it_went():
    x = torch.arange(2 * 4 * 6.0).view(1, 2, 1, 4, 6)
    flow = torch.zeros(1, 1, 2, 4, 6)
    torch.testing.assert_close(followed(x, flow), x[:, 1:])
    flow[:, :, 0], flow[:, :, 1] = 1, 2  # one to the right, two down
    torch.testing.assert_close(followed(x, flow)[0, 0, 0, :2, :5], x[0, 1, 0, 2:, 1:])
    flow[:, :, 0], flow[:, :, 1] = -0.5, 0
    expected = (x[0, 1, 0, :, 1:] + x[0, 1, 0, :, :-1]) / 2
    torch.testing.assert_close(followed(x, flow)[0, 0, 0, :, 1:], expected)


def test_the_change_counts_what_was_followed_and_has_a_gradient():
    x = torch.zeros(1, 2, 2, 4, 4, requires_grad=True)
    with torch.no_grad():
        x[:, 1] = 3.0
    seen = torch.zeros(1, 1, 1, 4, 4, dtype=torch.bool)
    flow = torch.zeros(1, 1, 2, 4, 4)
    assert change(x, flow, seen) == 0
    seen[..., :2] = True
    difference = change(x, flow, seen)
    assert difference.item() == pytest.approx(9)
    difference.backward()
    assert x.grad[:, 1, :, :, :2].abs().min() > 0 and not x.grad[..., 2:].any()


def test_flicker_is_what_colours_change_by_on_their_way():
    lightness = moving(frames=5)[0]
    greys = [grey(each) for each in lightness[:, 0].numpy()]

    def of(colors):
        return flicker(greys, [*colors.permute(0, 2, 3, 1).contiguous().numpy()])

    along = torch.cat((lightness, -lightness), dim=1) * 20  # colours that move with their things
    jumps = along + torch.tensor([0.0, 5, 0, 5, 0]).view(5, 1, 1, 1)  # in a and in b
    assert of(along) < 0.7
    assert of(torch.zeros_like(along)) == 0
    assert of(jumps) == pytest.approx(5 * 2**0.5, abs=0.5)
