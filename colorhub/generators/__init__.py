"""Networks that make pixels, one family a file.

Every colour network is called `generator(lightness) -> ab`: (N, 1, H, W) to (N, 2, H, W), both in
[-1, 1], for any H and W. One whose `config.noise_dim` is above 0 also takes `noise`,
(N, noise_dim), and draws it from torch's random state if it is left out; one whose
`config.alternatives` is above 0 also takes `choice`, 0 for the likeliest colours. One that knows
how sure it is has `uncertainty(lightness)`. ab in Lab units is the output times `config.ab_gain`.
PAPER (or a `config.paper` instead) and TAGS are what a card says of the network.
"""

from colorhub.generators.fusion import Autoencoder, Fusion
from colorhub.generators.mobileunet import MobileUNet
from colorhub.generators.resunet import ResUNet
from colorhub.generators.unet import UNet

Generator = ResUNet | UNet | Fusion | Autoencoder | MobileUNet

ARCHITECTURES: dict[str, type[Generator]] = {
    cls.__name__: cls for cls in (ResUNet, UNet, Fusion, Autoencoder, MobileUNet)
}

__all__ = [
    "ARCHITECTURES",
    "Autoencoder",
    "Fusion",
    "Generator",
    "MobileUNet",
    "ResUNet",
    "UNet",
]
