"""The papers that colorhub's networks come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper, and in a few words the network that it describes."""

    title: str
    authors: str
    year: int | None
    network: str
    short: str  # how it is cited


CWGAN = Paper(
    title="Image Colorization with Conditional WGAN",
    authors="Maryam Gholami Shiri, Amir Mahdi Amani and Hamid Mohammadi",
    year=None,
    network="a residual U-Net trained against a Wasserstein critic",
    short="Shiri et al.",
)
OBJECTIVES = Paper(
    title="A Comparative Study of Generative Adversarial Networks Towards Automatic Image "
    "Colorization",
    authors="Cameron Fabbri",
    year=2017,
    network="the U-Net of pix2pix trained against a critic of patches",
    short="Fabbri 2017",
)
PAINTINGS = Paper(
    title="Image Colorization",
    authors="Sri Harsha R, Subramanian V, Neha Dhuttargaon, Binayak Behera and Pratik Rana",
    year=None,
    network="an encoder and decoder fused with the features of a network that knows pictures",
    short="Harsha et al.",
)
THESIS = Paper(
    title="Residual Networks with Application to Image Colorization",
    authors="Vuong Tuan Quang and Do Trung Nghia",
    year=2020,
    network="a plain convolutional encoder and decoder trained by mean squared error",
    short="Quang and Nghia 2020",
)
NATURAL = Paper(
    title="colorhub",
    authors="the colorhub contributors",
    year=2026,
    network="a MobileNet encoder with a light U-Net decoder, trained on photos aged like archives",
    short="colorhub 2026",
)
WORDS = Paper(
    title="Research and Thesis Report",
    authors="Xu Ouyang",
    year=None,
    network="a DCGAN for each word and a convolutional LSTM over the sentence",
    short="Ouyang",
)
