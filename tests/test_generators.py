import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, make_generator

from colorhub.errors import OptionError
from colorhub.generators import ARCHITECTURES, MobileUNet
from colorhub.palette import colours


@pytest.mark.parametrize("size", [(32, 32), (31, 45), (1, 1), (7, 90)])
def test_the_output_has_the_input_s_size_and_range(tiny_generator, size):
    with torch.no_grad():
        ab = tiny_generator(torch.rand(2, 1, *size) * 2 - 1)
    assert ab.shape == (2, 2, *size)
    assert ab.abs().max() <= 1


def test_every_architecture_is_tested_here():
    assert set(TINY) == set(ARCHITECTURES)


def test_noise_changes_the_colours_and_a_given_noise_fixes_them():
    generator = ARCHITECTURES["ResUNet"](TINY["ResUNet"]).eval()
    lightness, noise = torch.rand(1, 1, 16, 16), torch.randn(1, 2)
    with torch.no_grad():
        assert torch.equal(generator(lightness, noise), generator(lightness, noise))
        assert not torch.equal(generator(lightness, noise), generator(lightness, -noise))


MOBILE = {
    "regression": {"alternatives": 3, "queries": 0, "saturation": 1.5},
    "regression, no alternatives": {"alternatives": 0, "queries": 0},
    "regression, queries": {"alternatives": 3, "queries": 3},
    "classification": {"alternatives": 0, "head": "classification", "queries": 0},
    "classification, queries": {"alternatives": 0, "head": "classification", "queries": 3},
}


@pytest.fixture(params=MOBILE.values(), ids=MOBILE)
def mobile(request):
    """Each head of MobileUNet, with colours far from zero."""
    torch.manual_seed(0)
    generator = MobileUNet(MobileUNet.Config(resolution=32, width=4, ab_gain=80.0, **request.param))
    with torch.no_grad():
        for name in ("mean", "classes", "shifts"):
            if hasattr(generator, name):
                getattr(generator, name).weight.mul_(30)
    return generator.eval()


@pytest.mark.parametrize("size", [(32, 64), (50, 45)])
@torch.no_grad()
def test_a_mobile_unet_trains_on_parts_of_what_it_gives(mobile, size):
    if mobile.config.head == "classification":
        mobile.classes.bias[colours().abs().amax(1).argmax()] = 1000.0  # the farthest from grey
    lightness = torch.rand(2, 1, *size) * 2 - 1
    ab = mobile(lightness)
    first, second, mean, *parts = mobile(lightness, parts=True)
    assert ab.shape == mean.shape == (2, 2, *size)
    assert ab.abs().max() <= 1 < mean.abs().max()  # what is trained is not cut off
    factor = mobile.config.saturation if mobile.config.head == "regression" else 1
    torch.testing.assert_close(ab, (factor * mean).clamp(-1, 1))
    half = tuple(-(-side // 32) * 16 for side in size)
    config = mobile.config
    if config.head == "classification":
        shapes = [(2, len(colours()), half[0] // 2, half[1] // 2)]
    else:
        shapes = [(2, 2, *half), (2, 3, 2, *half), (2, 1, *half)] if config.alternatives else []
    assert [tuple(part.shape) for part in parts] == shapes
    deepest = [(2, half[0] // times, half[1] // times) for times in (8, 16)]
    assert [(len(x), *x.shape[2:]) for x in (first, second)] == deepest


@torch.no_grad()
def test_a_mobile_unet_says_how_far_its_colours_may_be_off(mobile):
    if not mobile.config.tells_uncertainty:
        return
    lightness = torch.rand(1, 1, 32, 32) * 2 - 1
    unsure, parts = mobile.uncertainty(lightness), mobile(lightness, parts=True)
    gain = mobile.config.ab_gain
    if mobile.config.head == "classification":
        logits = parts[-1][0].permute(1, 2, 0)
        draws = torch.distributions.Categorical(logits=logits).sample((4000,))
        samples = colours()[draws].permute(0, 3, 1, 2) / gain
    else:
        # A density in the plane that falls as exp(-distance / scale): the distance is Gamma's.
        scale = parts[-1][0, 0].exp()
        distance = torch.distributions.Gamma(2.0, 1 / scale).sample((4000,))
        angle = torch.rand_like(distance) * 2 * torch.pi
        samples = torch.stack((distance * angle.cos(), distance * angle.sin()), dim=1)
    deviation = samples.var(0).sum(0).sqrt()[None, None]
    expected = F.interpolate(deviation, scale_factor=32 // deviation.shape[2], mode="bilinear")
    assert unsure.shape == (1, 1, 32, 32) and unsure.min() > 0
    torch.testing.assert_close(unsure, expected, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (50, 45)])
@torch.no_grad()
def test_the_uncertainty_has_the_input_s_size(mobile, size):
    if mobile.config.tells_uncertainty:
        unsure = mobile.uncertainty(torch.rand(2, 1, *size) * 2 - 1)
        assert unsure.shape == (2, 1, *size) and (unsure > 0).all()


@torch.no_grad()
def test_a_choice_adds_one_shift_to_the_likeliest_colours():
    generator = make_generator("MobileUNet")
    lightness = torch.rand(2, 1, 32, 32) * 2 - 1
    _, _, likeliest, half_size, shifts, _ = generator(lightness, parts=True)
    torch.testing.assert_close(generator(lightness, 0), (1.5 * likeliest).clamp(-1, 1))
    for choice in range(1, generator.config.alternatives + 1):
        moved = half_size + shifts[:, choice - 1]
        expected = F.interpolate(moved, scale_factor=2, mode="bilinear").clamp(-1, 1)
        assert not torch.allclose(expected, likeliest, atol=1e-3)
        torch.testing.assert_close(generator(lightness, choice), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder": "resnet50"}, "mobilenet_v2_100"),
        ({"head": "regresion"}, "regression, classification"),
        ({"head": "classification"}, "has no --alternatives"),
        ({"alternatives": -1}, "0 or more"),
        ({"queries": -1}, "0 or more"),
        ({"saturation": 0.0}, "above 0"),
        ({"width": 0}, "1 or more"),
        ({"width": 5, "queries": 2}, "must be even"),
    ],
)
def test_a_mobile_unet_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(OptionError, match=message):
        MobileUNet.Config(**wrong)


def test_the_paper_s_sizes_are_the_defaults():
    # The thesis's layers, counted by hand: 5,827,200 in the encoder and 424,802 in the decoder.
    autoencoder = ARCHITECTURES["Autoencoder"](ARCHITECTURES["Autoencoder"].Config())
    assert sum(parameter.numel() for parameter in autoencoder.parameters()) == 6_252_002
    config = ARCHITECTURES["ResUNet"].Config()
    assert (config.resolution, config.dropout, config.depth) == (224, 0.2, 4)


def test_one_batch_can_be_learned_by_heart(tiny_generator):
    torch.manual_seed(0)
    generator = tiny_generator.train()
    for module in generator.modules():
        if hasattr(module, "p"):
            module.p = 0.0  # dropout is there to prevent just this
    lightness = F.interpolate(torch.rand(4, 1, 2, 2) * 2 - 1, size=(16, 16), mode="bilinear")
    ab = torch.cat((lightness, -lightness), dim=1) * 0.3
    optimizer = torch.optim.Adam(generator.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = (generator(lightness) - ab).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < losses[0] / 3:
            return
    raise AssertionError(f"the loss fell only from {losses[0]} to {losses[-1]}")
