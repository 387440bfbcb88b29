import pytest
import torch
import torch.nn.functional as F
from conftest import TINY

from colorhub.generators import ARCHITECTURES


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
    assert losses[-1] < losses[0] / 3
