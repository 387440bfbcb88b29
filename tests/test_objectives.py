import math

import pytest
import torch
from torch import nn

from colorhub import OptionError
from colorhub.critics import ConvCritic
from colorhub.objectives import (
    EBGAN,
    GAN,
    LSGAN,
    OBJECTIVES,
    Wasserstein,
    clip_weights,
    gradient_penalty,
    pull_away,
    r1_penalty,
)

each_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def linear_critic(lightness, ab):
    """Its gradient is (3, 4) at each pixel, norm 5 for one pixel."""
    slope = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    return (slope * ab).sum(dim=(1, 2, 3))


def test_the_gan_losses_of_known_scores():
    # Logits of the probabilities 1/2 and 3/4, 1/2 and 1/4.
    real = torch.tensor([[0.0], [math.log(3)]])
    fake = torch.tensor([[0.0], [-math.log(3)]])
    # -(ln 1/2 + ln 3/4) / 2 on either side.
    assert GAN().critic(real, fake).item() == pytest.approx(math.log(8 / 3))
    # -(ln 1/2 + ln 1/4) / 2
    assert GAN().generator(fake).item() == pytest.approx(1.5 * math.log(2))


def test_the_gan_s_generator_learns_most_when_the_critic_is_surest():
    fake = torch.tensor([-200.0], requires_grad=True)
    GAN().generator(fake).backward()
    assert fake.grad.item() == pytest.approx(-1)


def test_the_lsgan_losses_of_known_scores():
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[-2.0], [4.0]])
    # Real ones miss 1 by 0 and 2, fake ones miss 0 by 2 and 4, and 1 by 3 and 3.
    assert LSGAN().critic(real, fake).item() == pytest.approx((0 + 4) / 4 + (4 + 16) / 4)
    assert LSGAN().generator(fake).item() == pytest.approx((9 + 9) / 4)


def test_the_ebgan_losses_of_known_energies():
    real, fake = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])
    # The margin is missed by 2 and by nothing: each photo has its own, not the mean.
    assert EBGAN(margin=3).critic(real, fake).item() == pytest.approx(1.5 + (2 + 0) / 2)
    assert EBGAN(margin=3).generator(fake).item() == pytest.approx(3)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_a_margin_that_is_not_positive_is_refused(margin):
    with pytest.raises(OptionError, match=f"--margin is {margin}"):
        EBGAN(margin=margin)


def test_the_wasserstein_losses_of_known_scores():
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[-2.0], [4.0]])
    objective = Wasserstein()
    assert objective.critic(real, fake).item() == pytest.approx(1.0 - 2.0)
    assert objective.generator(fake).item() == pytest.approx(-1.0)


def test_the_objectives_have_the_names_that_variants_are_called_by():
    assert set(OBJECTIVES) == {"gan", "lsgan", "ebgan", "wgan"}


@each_objective
def test_the_generator_pulls_fake_scores_to_where_the_critic_pulls_real_ones(objective):
    real, fake, own = (torch.full((3, 1), 0.5, requires_grad=True) for _ in range(3))
    objective().critic(real, fake).backward()
    objective().generator(own).backward()
    assert (real.grad.sign() == own.grad.sign()).all()
    assert (fake.grad.sign() == -own.grad.sign()).all()


@each_objective
def test_losses_are_full_precision_whatever_the_scores_are(objective):
    real, fake = torch.randn(50, 1).bfloat16(), torch.randn(50, 1).bfloat16()
    loss = objective().critic(real, fake), objective().generator(fake)
    wide = objective().critic(real.float(), fake.float()), objective().generator(fake.float())
    assert loss == wide
    assert loss[0].dtype == loss[1].dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 2), (3, 1, 2, 1)])
def test_the_pull_away_term_of_known_embeddings(shape):
    # Squared cosines of 45, 90 and 45 degrees, whatever the lengths: 1/2, 0 and 1/2.
    embedding = torch.tensor([[1.0, 0.0], [-3.0, 3.0], [0.0, 0.5]]).view(shape)
    assert pull_away(embedding).item() == pytest.approx(1 / 3)


def test_one_photo_has_nothing_to_be_pulled_away_from():
    embedding = torch.randn(1, 4, requires_grad=True)
    loss = pull_away(embedding)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(embedding.grad, torch.zeros(1, 4))


def test_the_pull_away_term_is_full_precision_under_autocast_too():
    embedding = torch.randn(4, 100).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pull_away(embedding)
    assert loss.dtype == torch.float32
    assert loss == pull_away(embedding.float())


def test_clipping_holds_every_weight_and_bias_to_the_limit():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": torch.tensor([[-3.0, 0.01]]), "bias": torch.tensor([0.2])})
    weight = layer.weight
    clip_weights(layer, 0.05)
    assert layer.weight is weight
    assert torch.equal(layer.weight, torch.tensor([[-0.05, 0.01]]))
    assert torch.equal(layer.bias, torch.tensor([0.05]))
    assert layer.weight.requires_grad


def test_the_gradient_penalty_of_a_linear_critic_is_known_exactly():
    nothing, real, fake = torch.zeros(4, 1, 1, 1), torch.randn(4, 2, 1, 1), torch.randn(4, 2, 1, 1)
    penalty = gradient_penalty(linear_critic, nothing, real, fake)
    assert penalty.item() == pytest.approx((5 - 1) ** 2)


def test_the_r1_penalty_of_a_linear_critic_is_known_exactly():
    nothing, real = torch.zeros(4, 1, 2, 2), torch.randn(4, 2, 2, 2)
    assert r1_penalty(linear_critic, nothing, real).item() == pytest.approx(4 * 25)


def test_penalties_reach_the_critic_s_parameters_but_not_the_generator():
    critic = ConvCritic(ConvCritic.Config(critic_width=4, critic_depth=2))
    lightness, real = torch.rand(3, 1, 16, 16), torch.rand(3, 2, 16, 16)
    fake = torch.rand(3, 2, 16, 16, requires_grad=True)
    (
        gradient_penalty(critic, lightness, real, fake) + r1_penalty(critic, lightness, real)
    ).backward()
    assert fake.grad is None
    assert critic.layers[0].weight.grad.abs().sum() > 0


def test_a_critic_learns_to_tell_colour_from_grey():
    torch.manual_seed(0)
    critic = ConvCritic(ConvCritic.Config(critic_width=8, critic_depth=3))
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3)
    objective = Wasserstein()
    lightness, real, fake = (
        torch.rand(8, 1, 16, 16),
        torch.rand(8, 2, 16, 16),
        torch.zeros(8, 2, 16, 16),
    )
    for _ in range(100):
        loss = objective.critic(critic(lightness, real), critic(lightness, fake))
        loss = loss + gradient_penalty(critic, lightness, real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Seeds 0 to 5 gave gaps of 1.5 to 2.8.
    assert critic(lightness, real).mean() > critic(lightness, fake).mean() + 0.5


def test_every_parameter_of_the_critic_can_learn():
    torch.manual_seed(0)
    critic = ConvCritic(ConvCritic.Config(critic_width=4, critic_depth=3))
    critic(torch.rand(2, 1, 16, 16), torch.rand(2, 2, 16, 16)).square().mean().backward()
    for name, parameter in critic.named_parameters():
        # A bias that a norm removes has a gradient of nothing but rounding, 1e-9 here.
        assert parameter.grad.abs().max() > 1e-5, name
