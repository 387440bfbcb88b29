"""The papers that colorhub's networks come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper, and in a few words the network that it describes."""

    title: str
    authors: str
    year: int | None
    network: str


CWGAN = Paper(
    title="Image Colorization with Conditional WGAN",
    authors="Maryam Gholami Shiri, Amir Mahdi Amani and Hamid Mohammadi",
    year=None,
    network="a residual U-Net trained against a Wasserstein critic",
)
THESIS = Paper(
    title="Residual Networks with Application to Image Colorization",
    authors="Vuong Tuan Quang and Do Trung Nghia",
    year=2020,
    network="a plain convolutional encoder and decoder trained by mean squared error",
)
NATURAL = Paper(
    title="colorhub",
    authors="the colorhub contributors",
    year=2026,
    network="a MobileNet encoder with a light U-Net decoder, trained on photos aged like archives",
)
