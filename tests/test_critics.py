"""The critics of patches and of energies: their sizes, and what they compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from colorhub.critics import CriticConfig, EnergyCritic, PatchCritic
from colorhub.errors import OptionError
from colorhub.objectives import GAN, pull_away

SMALL = CriticConfig(critic_width=4, critic_depth=2)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def photos(count, height, width):
    """Lightness and ab."""
    return torch.rand(count, 1, height, width) * 2 - 1, torch.rand(count, 2, height, width) * 2 - 1


def layers_of(network):
    """(filters, stride, whether a norm follows) of each convolution."""
    modules = [*network]
    return [
        (module.out_channels, module.stride[0], isinstance(after, nn.BatchNorm2d))
        for module, after in zip(modules, [*modules[1:], None], strict=True)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]


def test_a_patch_critic_has_the_layers_and_the_weights_of_pix2pix_s():
    with torch.device("meta"):
        critic = PatchCritic(CriticConfig())
        scores = critic.eval()(torch.empty(2, 1, 256, 256), torch.empty(2, 2, 256, 256))
    # Isola et al. 2017, section 6.1.2: C64-C128-C256-C512, the last of stride 1, then one filter.
    assert layers_of(critic.layers) == [
        (64, 2, False),
        (128, 2, True),
        (256, 2, True),
        (512, 1, True),
        (1, 1, False),
    ]
    assert sum(each.numel() for each in critic.parameters()) == 2_765_633
    assert scores.shape == (2, 1, 30, 30)


def test_a_score_sees_a_patch_of_70_pixels():
    critic = PatchCritic(CriticConfig(critic_width=2)).eval()
    lightness, ab = photos(1, 128, 128)
    scores = critic(lightness, ab.requires_grad_())
    scores[0, 0, 7, 6].backward()
    seen = ab.grad.abs().sum((0, 1)) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert len(rows) == len(columns) == 70
    # Each layer's first place is the stride times its result's, less one of padding.
    assert (rows[0].item(), columns[0].item()) == (8 * 7 - 23, 8 * 6 - 23)


@torch.no_grad()
def test_a_patch_critic_judges_lightness_and_ab_together():
    critic = PatchCritic(SMALL).eval()
    lightness, ab = photos(1, 16, 16)
    scores = critic(lightness, ab)
    assert not torch.equal(critic(-lightness, ab), scores)
    assert not torch.equal(critic(lightness, ab.flip(1)), scores)


def test_a_patch_critic_learns_to_tell_one_batch_from_another():
    critic, objective = PatchCritic(SMALL), GAN()
    lightness, real = photos(4, 16, 16)
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        loss = objective.critic(critic(lightness, real), critic(lightness, real * 0.1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_an_energy_critic_halves_as_a_patch_critic_does_and_goes_up_again():
    with torch.device("meta"):
        energy, patches = EnergyCritic(CriticConfig()), PatchCritic(CriticConfig())
    encoder = [(64, 2, False), (128, 2, True), (256, 2, True)]
    assert layers_of(energy.encoder) == encoder == layers_of(patches.layers)[:3]
    assert layers_of(energy.decoder) == [(128, 2, True), (64, 2, True), (3, 2, False)]


@torch.no_grad()
def test_an_energy_is_a_photo_s_mean_squared_error():
    critic = EnergyCritic(SMALL)
    lightness, ab = photos(3, 16, 24)
    again = torch.tensor([0.5, 0.0, -0.25])  # what the decoder makes of everything
    critic.decoder[-1].weight.zero_()
    critic.decoder[-1].bias.copy_(again)
    picture = torch.cat((lightness, ab), dim=1)
    expected = [((one - again.view(3, 1, 1)) ** 2).mean() for one in picture]
    torch.testing.assert_close(critic(lightness, ab), torch.stack(expected))
    critic.decoder[-1].bias.zero_()
    torch.testing.assert_close(critic(lightness, ab), (picture**2).mean((1, 2, 3)))
    lightness[1:], ab[1:] = 0, 0
    assert [energy > 0 for energy in critic(lightness, ab).tolist()] == [True, False, False]


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (1, 1), (5, 18)])
@torch.no_grad()
def test_an_energy_critic_takes_any_size_and_measures_no_padding(size):
    critic = EnergyCritic(SMALL).eval()
    lightness, ab = photos(2, *size)
    height, width = size
    picture = torch.cat((lightness, ab), dim=1)
    padded = F.pad(picture, (0, -width % 4, 0, -height % 4), mode="replicate")
    again = critic.decoder(critic.encoder(padded))[..., :height, :width]
    energies = critic(lightness, ab)
    assert energies.shape == (2,)
    torch.testing.assert_close(energies, (again - picture).square().mean((1, 2, 3)))


@torch.no_grad()
def test_an_energy_critic_gives_its_maps_when_asked():
    critic = EnergyCritic(SMALL).eval()
    lightness, ab = photos(3, 16, 24)
    energies, maps = critic(lightness, ab, embedding=True)
    assert torch.equal(energies, critic(lightness, ab))
    assert torch.equal(maps, critic.encoder(torch.cat((lightness, ab), dim=1)))
    assert maps.shape == (3, 8, 4, 6)
    alike = critic(
        lightness[:1].expand(3, -1, -1, -1), ab[:1].expand(3, -1, -1, -1), embedding=True
    )
    assert pull_away(maps) < pull_away(alike[1]) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"critic_width": 0}, {"critic_depth": 0}])
def test_a_critic_that_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError, match="width and depth must be 1 or more"):
        CriticConfig(**wrong)
