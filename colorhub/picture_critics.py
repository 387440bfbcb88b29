"""Networks that judge whole pictures: critic(pictures (N, C, R, R) in [-1, 1]) -> scores."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from colorhub.critics import CriticConfig, EnergyCritic
from colorhub.errors import OptionError
from colorhub.generators.noise import NoiseConfig, halvings
from colorhub.layers import BatchNorm2d, start_small


class MLPCritic(nn.Module):
    """Three linear layers with LeakyReLU 0.2."""

    def __init__(self, pictures: NoiseConfig, width: int) -> None:
        super().__init__()
        sizes = _sizes(pictures, width, (8, 4))
        self.layers = nn.Sequential(*_stack(sizes, nn.LeakyReLU(0.2)), nn.Linear(sizes[-1], 1))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, C, R, R) in [-1, 1] to scores (N, 1)."""
        return self.layers(picture.flatten(1))


class MLPEnergy(nn.Module):
    """EBGAN's auto-encoder of linear layers: the energy is the mean squared error."""

    def __init__(self, pictures: NoiseConfig, width: int) -> None:
        super().__init__()
        sizes = _sizes(pictures, width, (8, 4, 1))
        self.encoder = nn.Sequential(*_stack(sizes, nn.ReLU()))
        back = sizes[:0:-1]
        self.decoder = nn.Sequential(*_stack(back, nn.ReLU()), nn.Linear(back[-1], sizes[0]))

    def forward(self, picture: Tensor, *, embedding: bool = False) -> Any:
        """(N, C, R, R) in [-1, 1] to energies (N,), 0 or more; with `embedding` also codes."""
        flat = picture.flatten(1)
        codes = self.encoder(flat)
        energies = (self.decoder(codes).float() - flat.float()).square().mean(1)
        return (energies, codes) if embedding else energies


class DCGANCritic(nn.Module):
    """4x4 convolutions of stride 2 with LeakyReLU 0.2 and, but for the first, batch norm, down to
    one score (Radford et al. 2016)."""

    def __init__(self, pictures: NoiseConfig, width: int) -> None:
        super().__init__()
        times, side = halvings(pictures.resolution)
        _check(width)
        widths = [width * min(2**level, 8) for level in range(times)]
        layers: list[nn.Module] = [
            nn.Conv2d(pictures.channels, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2),
        ]
        for narrow, wide in pairwise(widths):
            layers += [
                nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
                BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, side))
        start_small(self)

    def forward(self, picture: Tensor) -> Tensor:
        """(N, C, R, R) in [-1, 1] to scores (N, 1)."""
        return self.layers(picture).flatten(1)


class DCGANEnergy(nn.Module):
    """`critics.EnergyCritic` on pictures, halved as often as `DCGANCritic` does."""

    def __init__(self, pictures: NoiseConfig, width: int) -> None:
        super().__init__()
        times, _ = halvings(pictures.resolution)
        self.network = EnergyCritic(CriticConfig(width, times), channels=pictures.channels)

    def forward(self, picture: Tensor, *, embedding: bool = False) -> Any:
        """(N, C, R, R) in [-1, 1] to energies (N,), 0 or more; with `embedding` also maps."""
        return self.network.judge(picture, embedding=embedding)


CRITICS: dict[str, type[Any]] = {"mlp": MLPCritic, "dcgan": DCGANCritic}
ENERGIES: dict[str, type[Any]] = {"mlp": MLPEnergy, "dcgan": DCGANEnergy}


def _sizes(pictures: NoiseConfig, width: int, factors: tuple[int, ...]) -> list[int]:
    _check(width)
    return [pictures.channels * pictures.resolution**2, *(width * factor for factor in factors)]


def _check(width: int) -> None:
    if width < 1:
        raise OptionError(f"--critic_width is {width}; it must be 1 or more.")


def _stack(sizes: list[int], activation: nn.Module) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation]
    return layers
