import pytest
import torch

from colorhub.critics import ConvCritic
from colorhub.objectives import Wasserstein, gradient_penalty, r1_penalty


def linear_critic(lightness, ab):
    """Its gradient is (3, 4) at each pixel, norm 5 for one pixel."""
    slope = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    return (slope * ab).sum(dim=(1, 2, 3))


def test_the_wasserstein_losses_of_known_scores():
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[-2.0], [4.0]])
    objective = Wasserstein()
    assert objective.critic(real, fake).item() == pytest.approx(1.0 - 2.0)
    assert objective.generator(fake).item() == pytest.approx(-1.0)


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
        loss = loss + 10 * gradient_penalty(critic, lightness, real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert critic(lightness, real).mean() > critic(lightness, fake).mean() + 0.05
