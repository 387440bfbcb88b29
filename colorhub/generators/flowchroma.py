"""FlowChroma: the fusion model over time, for films.

After the thesis's future work (section 5.2 of "Residual Networks with Application to Image
Colorization"), which takes it from Wijesinghe et al. 2020, "FlowChroma".
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.generators.fusion import Fusion
from colorhub.papers import THESIS, Paper


class FlowChroma(nn.Module):
    """A fusion model for every frame, between which an LSTM passes on what was seen before.

    The LSTM takes the encoding's global average, frame after frame; its output is repeated over
    the maps and fused with them, beside the extractor's. (As in `Fusion` that is computed as a sum
    of linear layers, which is the same.) `recalled`, its part of the fusion, starts at 0: an
    untrained FlowChroma colours every frame as its fusion model does. Beyond the thesis the average
    is normalised, being so small (0.02 of a trained encoder) that the LSTM would not notice it.
    """

    PAPER = replace(
        THESIS,
        network="a convolutional encoder and decoder told what a classifier sees, and by an LSTM "
        "what came before",
    )
    TAGS = ("autoencoder", "fusion", "lstm")

    @dataclass(frozen=True)
    class Config(Fusion.Config):
        frames: int = 16
        """Frames of the longest clip that the network was made for."""
        lstm_width: int = 256
        """Values that the LSTM passes on from frame to frame."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.frames < 1 or self.lstm_width < 1:
                raise OptionError(
                    f"--frames is {self.frames} and --lstm_width {self.lstm_width}: give 1 or more."
                )

        @property
        def paper(self) -> Paper:
            """Where this configuration comes from."""
            return FlowChroma.PAPER

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.photo = Fusion(config)
        deep = 4 * config.width
        self.norm = nn.LayerNorm(deep)
        self.lstm = nn.LSTM(deep, config.lstm_width, batch_first=True)
        self.recalled = nn.Linear(config.lstm_width, deep, bias=False)
        nn.init.zeros_(self.recalled.weight)

    def forward(self, lightness: Tensor) -> Tensor:
        """(N, T, 1, H, W) in [-1, 1] to ab (N, T, 2, H, W) in [-1, 1], T from 1 to `frames`.

        Raises OptionError for more frames.
        """
        clips, frames, _, *size = lightness.shape
        if frames > self.config.frames:
            raise OptionError(
                f"A clip of {frames} frames: this network takes {self.config.frames} at a time, "
                "give it the film in parts."
            )
        pictures = lightness.flatten(0, 1)  # (N * T, 1, H, W)
        encoded = self.photo.encode(pictures)
        seen = self.norm(encoded.mean((2, 3))).unflatten(0, (clips, frames))
        recalled = self.recalled(self.lstm(seen)[0]).flatten(0, 1)
        told = self.photo.embedded(self.photo.embed(pictures)) + recalled
        return self.photo.decode(encoded, told, size).unflatten(0, (clips, frames))
