"""What generator and critic are trained towards: two losses over scores, penalties beside them.

Scores are whatever the critic gives; an objective never sees a network. Losses are means over the
batch, so gradients averaged over ranks are those of the joined batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from colorhub.ranks import draw_uniform

Critic = Callable[[Tensor, Tensor], Tensor]
"""critic(lightness (N, 1, H, W), ab (N, 2, H, W)) -> scores (N, ...)."""


@dataclass(frozen=True)
class Wasserstein:
    """The critic's gap estimates the earth mover's distance (Arjovsky et al. 2017)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar loss; its negative is the estimated distance."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Scalar loss that falls as the critic takes the generator's pictures for real ones."""
        return -fake.mean()


def gradient_penalty(critic: Critic, lightness: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Squared distance of the gradient's norm from 1 at random mixtures (Gulrajani et al. 2017).

    `real` and `fake` are ab (N, 2, H, W); the norm is taken over each photo's ab. Give a critic
    that computes in fp32: half precision overflows in the second derivative.
    """
    mix = draw_uniform(len(real), 1, 1, 1, like=real)
    gradient = _input_gradient(critic, lightness, mix * real + (1 - mix) * fake)
    return (gradient.norm(dim=1) - 1).square().mean()


def r1_penalty(critic: Critic, lightness: Tensor, real: Tensor) -> Tensor:
    """Squared norm of the gradient at real photos (Mescheder et al. 2018), without its 1/2."""
    return _input_gradient(critic, lightness, real).square().sum(dim=1).mean()


def _input_gradient(critic: Critic, lightness: Tensor, ab: Tensor) -> Tensor:
    """The scores' gradient towards ab, differentiable again: (N, 2HW)."""
    ab = ab.detach().float().requires_grad_()
    scores = critic(lightness.float(), ab)
    (gradient,) = torch.autograd.grad(scores.sum(), ab, create_graph=True)
    return gradient.flatten(start_dim=1)
