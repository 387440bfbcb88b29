"""What generator and critic are trained towards: two losses over scores, penalties beside them.

Scores are whatever the critic gives; an objective never sees a network. Losses are fp32 whatever
the scores are, and means over the batch, so gradients averaged over ranks are those of the joined
batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.ranks import draw_uniform, gather_rows

Critic = Callable[[Tensor, Tensor], Tensor]
"""critic(lightness (N, 1, H, W), ab (N, 2, H, W)) -> scores (N, ...)."""


@dataclass(frozen=True)
class GAN:
    """Real or not, by cross entropy; scores are logits (Goodfellow et al. 2014).

    The generator raises log D(fake) instead of lowering log(1 - D(fake)), whose gradient vanishes
    while the critic is far ahead: the non-saturating form of the paper's section 3.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar loss from scores (N, ...): the sum of both sides' mean cross entropies."""
        return -F.logsigmoid(real.float()).mean() - F.logsigmoid(-fake.float()).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Scalar loss from scores (N, ...)."""
        return -F.logsigmoid(fake.float()).mean()


@dataclass(frozen=True)
class LSGAN:
    """Least squares, also for what is on the right side (Mao et al. 2017).

    The critic draws fake scores to a = 0 and real ones to b = 1, the generator its own to c = 1.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar loss from scores (N, ...)."""
        return (real.float() - 1).square().mean() / 2 + fake.float().square().mean() / 2

    def generator(self, fake: Tensor) -> Tensor:
        """Scalar loss from scores (N, ...)."""
        return (fake.float() - 1).square().mean() / 2


@dataclass(frozen=True)
class EBGAN:
    """Scores are energies, low for real photos (Zhao et al. 2017, equations 1 and 2).

    The critic lowers real energies and raises fake ones up to the margin; the generator lowers
    its own. `pull_away` may be added to the generator's loss.
    """

    margin: float = 1.0
    """Energy above which the critic leaves a fake alone."""

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise OptionError(f"--margin is {self.margin}; it must be more than 0.")

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar loss from energies (N, ...)."""
        return real.float().mean() + F.relu(self.margin - fake.float()).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Scalar loss from energies (N, ...)."""
        return fake.float().mean()


@dataclass(frozen=True)
class Wasserstein:
    """The critic's gap estimates the earth mover's distance (Arjovsky et al. 2017).

    It does while the critic is Lipschitz: by `clip_weights`, as in the paper, or by
    `gradient_penalty`.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar loss from scores (N, ...); its negative is the estimated distance."""
        return fake.float().mean() - real.float().mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Scalar loss that falls as the critic takes the generator's pictures for real ones."""
        return -fake.float().mean()


Objective = GAN | LSGAN | EBGAN | Wasserstein
OBJECTIVES: dict[str, type[Objective]] = {
    "gan": GAN,
    "lsgan": LSGAN,
    "ebgan": EBGAN,
    "wgan": Wasserstein,
}


def pull_away(embedding: Tensor) -> Tensor:
    """EBGAN's repelling term: how alike the fakes' embeddings are (Zhao et al. 2017, section 2.4).

    The mean squared cosine of the angle between two different photos' embeddings (N, ...), over
    all pairs of the joined batch; the same on every rank, and 0 for a joined batch of one photo.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        direction = F.normalize(gather_rows(embedding.float().flatten(start_dim=1)))
        cosine = direction @ direction.T
    pairs = len(cosine) * (len(cosine) - 1) // 2
    return cosine.triu(diagonal=1).square().sum() / max(pairs, 1)


@torch.no_grad()
def clip_weights(network: nn.Module, limit: float) -> None:
    """Hold every parameter to [-limit, limit], in place (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in network.parameters():
        parameter.clamp_(-limit, limit)


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
