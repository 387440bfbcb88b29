"""Networks that make pixels, one family a file; KINDS tells what they make them from.

Every network of photos is called `generator(lightness) -> ab`: (N, 1, H, W) to (N, 2, H, W), both
in [-1, 1], for any H and W. One whose `config.noise_dim` is above 0 also takes `noise`,
(N, noise_dim), and draws it from torch's random state if it is left out; one whose
`config.alternatives` is above 0 also takes `choice`, 0 for the likeliest colours. One that knows
how sure it is has `uncertainty(lightness)`. ab in Lab units is the output times `config.ab_gain`.
One of films is called with clips: (N, T, 1, H, W) to (N, T, 2, H, W), T up to `config.frames`.
PAPER (or a `config.paper` instead) and TAGS are what a card says of the network.
"""

from typing import Any

from colorhub.generators.flowchroma import FlowChroma
from colorhub.generators.fusion import Autoencoder, Fusion
from colorhub.generators.mobileunet import MobileUNet
from colorhub.generators.noise import DCGANGenerator, MLPGenerator
from colorhub.generators.resunet import ResUNet
from colorhub.generators.text2image import Text2Image
from colorhub.generators.unet import UNet

Generator = ResUNet | UNet | Fusion | Autoencoder | MobileUNet

ARCHITECTURES: dict[str, type[Generator]] = {
    cls.__name__: cls for cls in (ResUNet, UNet, Fusion, Autoencoder, MobileUNet)
}

KINDS: dict[str, dict[str, type[Any]]] = {
    "photo": dict(ARCHITECTURES),
    "video": {"FlowChroma": FlowChroma},
    "text": {"Text2Image": Text2Image},
    "noise": {cls.__name__: cls for cls in (MLPGenerator, DCGANGenerator)},
}
EVERY: dict[str, type[Any]] = {name: cls for each in KINDS.values() for name, cls in each.items()}

__all__ = [
    "ARCHITECTURES",
    "EVERY",
    "KINDS",
    "Autoencoder",
    "DCGANGenerator",
    "FlowChroma",
    "Fusion",
    "Generator",
    "MLPGenerator",
    "MobileUNet",
    "ResUNet",
    "Text2Image",
    "UNet",
]
