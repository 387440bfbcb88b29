"""Critics of whole pictures."""

import pytest
import torch

from colorhub.critics import CriticConfig, EnergyCritic
from colorhub.errors import OptionError
from colorhub.generators.noise import NoiseConfig
from colorhub.picture_critics import CRITICS, ENERGIES

SHAPES = pytest.mark.parametrize(("resolution", "channels"), [(28, 1), (64, 3)])


@SHAPES
@pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS)
def test_a_critic_gives_a_picture_one_score(critic, resolution, channels):
    pictures = NoiseConfig(resolution, channels)
    scores = critic(pictures, 2)(torch.rand(3, channels, resolution, resolution))
    assert scores.shape == (3, 1)


@SHAPES
@pytest.mark.parametrize("critic", ENERGIES.values(), ids=ENERGIES)
def test_an_energy_is_the_mean_squared_error_of_what_comes_out(critic, resolution, channels):
    network = critic(NoiseConfig(resolution, channels), 2).eval()
    with torch.no_grad():  # an auto-encoder that only ever says nothing
        for weight in network.parameters():
            weight.zero_()
    pictures = torch.full((3, channels, resolution, resolution), 0.5)
    energies, codes = network(pictures, embedding=True)
    torch.testing.assert_close(energies, torch.full((3,), 0.25))
    torch.testing.assert_close(network(pictures), energies)
    assert len(codes) == 3


@pytest.mark.parametrize("critic", [*CRITICS.values(), *ENERGIES.values()])
def test_a_critic_without_width_is_refused(critic):
    with pytest.raises(OptionError, match="1 or more"):
        critic(NoiseConfig(28, 1), 0)


def test_of_colour_the_energy_critic_judges_the_joined_picture():
    network = EnergyCritic(CriticConfig(4, 2)).eval()
    picture = torch.rand(2, 3, 20, 24)
    torch.testing.assert_close(network(picture[:, :1], picture[:, 1:]), network.judge(picture))
