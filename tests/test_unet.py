"""The pix2pix generator: its size, its skip connections, its dropout."""

import pytest
import torch
import torch.nn.functional as F

from colorhub.errors import OptionError
from colorhub.generators import UNet


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make(**changes):
    return UNet(UNet.Config(**{"resolution": 32, "width": 4, "depth": 4, "dropout": 0.0} | changes))


def photo(side=32, count=1):
    return torch.rand(count, 1, side, side) * 2 - 1


def test_the_defaults_are_the_network_of_pix2pix():
    with torch.device("meta"):
        network = UNet(UNet.Config())
    # The 54,414,531 of Isola's with three channels in and three out, less what a channel in (1024
    # each) and a channel out (2049 each) take, and no other bias than a norm's but at the ends.
    assert sum(each.numel() for each in network.parameters()) == 54_410_434
    shares = [up[-1].p for up in network.up]
    assert shares == [0, 0.5, 0.5, 0.5, 0, 0, 0]


@torch.no_grad()
def test_the_picture_is_halved_down_to_one_pixel():
    network, sides = make(depth=5).eval(), []
    for down in network.down:
        down.register_forward_hook(lambda module, given, result: sides.append(result.shape[2:]))
    network(photo())
    assert sides == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("size", [(32, 32), (1, 7)])
@torch.no_grad()
def test_any_depth_and_any_size_will_do(depth, size):
    network = make(depth=depth).eval()
    ab = network(torch.rand(2, 1, *size) * 2 - 1)
    assert ab.shape == (2, 2, *size)
    assert 0 < ab.abs().max() <= 1


@torch.no_grad()
def test_dropout_acts_in_training_only():
    network, lightness = make(dropout=0.5), photo(count=2)
    assert not torch.equal(network(lightness), network(lightness))
    network.eval()
    assert torch.equal(network(lightness), network(lightness))
    without = make(dropout=0.0)
    assert torch.equal(without(lightness), without(lightness))


@torch.no_grad()
def test_each_layer_up_gets_the_maps_of_its_size_on_the_way_down():
    network, made, given = make().eval(), [], []
    for down in network.down:
        down.register_forward_hook(lambda module, inputs, result: made.append(result))
    for up in [*network.up, network.head]:
        up.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    network(photo())
    assert torch.equal(given[0], F.relu(made[-1]))
    for wide, maps in zip(given[1:], reversed(made[:-1]), strict=True):
        assert torch.equal(wide[:, -maps.shape[1] :], F.relu(maps))
        assert wide.shape[1] == 2 * maps.shape[1]


@torch.no_grad()
def test_detail_goes_past_the_inner_layers():
    network = make().eval()
    for weight in network.up[-1].parameters():
        weight.zero_()  # all that comes from inside
    lightness = photo()
    other = lightness.clone()
    other[..., 16, 16] += 0.5
    changed = (network(lightness) - network(other)).abs().amax(1)[0] > 0
    assert changed.any()
    # One convolution of four pixels down and one up.
    assert (changed.nonzero() - 16).abs().max() <= 3


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"depth": 0}, {"resolution": 0}, {"dropout": 1.0}, {"dropout": -0.1}]
)
def test_a_unet_that_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError, match=r"must be 1 or more, dropout in \[0, 1\)"):
        UNet.Config(**wrong)
