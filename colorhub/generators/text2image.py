"""The generator of "Research and Thesis Report": sentences to pictures, one a word."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import BatchNorm2d, ConvLSTMCell, start_small
from colorhub.papers import WORDS as PAPER
from colorhub.ranks import draw_normal, gather
from colorhub.vocabulary import WORDS

VECTOR = 400
"""Length of a word2vec vector (section 4.1)."""


class Text2Image(nn.Module):
    """DCGAN's generator for every word, a convolutional LSTM over the words, two deconvolutions.

    A word's vector is projected to a map of an eighth of the resolution, which three
    fractionally-strided convolutions bring to its full size; the last word's network is the same
    one. The LSTM is followed by two deconvolutions of stride 1, the variant that worked in the
    paper. Word vectors are `vectors`, which training leaves alone: row 0 is the blank.

    Beyond the paper: the maps may have more than 3 channels, noise may stand beside each word's
    vector (the same for a whole sentence), and a blank leaves the memory empty, so that what a
    sentence gives does not depend on how many blanks are before it.
    """

    vectors: Tensor
    PAPER = PAPER
    TAGS = ("gan", "dcgan", "word2vec", "convlstm")

    @dataclass(frozen=True)
    class Size:
        """What can be chosen before the words are known."""

        resolution: int = 64
        """Pixels of a picture's side, a multiple of 8."""
        width: int = 64
        """Filters of the last but one fractionally-strided convolution; two and four times as
        many before it."""
        maps: int = 3
        """Channels of a word's map and of the memory: 3 in the paper."""
        noise_dim: int = 0
        """Length of the noise vector beside a word's; 0 switches noise off, as in the paper."""

        def __post_init__(self) -> None:
            if self.resolution < 16 or self.resolution % 8:
                raise OptionError(
                    f"--resolution is {self.resolution}; give a multiple of 8, 16 or more."
                )
            if min(self.width, self.maps, self.noise_dim + 1) < 1:
                raise OptionError(
                    f"{self} is no network: width and maps must be 1 or more, noise_dim 0 or more."
                )

    @dataclass(frozen=True)
    class Config(Size):
        vocabulary: str = ""
        """The known words, separated by spaces."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.side = config.resolution // 8
        widths = [4 * config.width, 2 * config.width, config.width]
        count = len(config.vocabulary.split())
        self.register_buffer("vectors", torch.zeros(count + 1, VECTOR))
        self.project = nn.Linear(VECTOR + config.noise_dim, widths[0] * self.side**2, bias=False)
        layers: list[nn.Module] = [BatchNorm2d(widths[0]), nn.ReLU()]
        for wide, narrow in pairwise(widths):
            up = nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
            layers += [up, BatchNorm2d(narrow), nn.ReLU()]
        self.word = nn.Sequential(
            *layers, nn.ConvTranspose2d(widths[-1], config.maps, 4, 2, 1), nn.Tanh()
        )
        self.memory = ConvLSTMCell(config.maps, config.maps, side=config.resolution)
        self.draw = nn.Sequential(
            nn.ConvTranspose2d(config.maps, config.maps, 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(config.maps, 3, 3, 1, 1),
            nn.Tanh(),
        )
        start_small(self.word)
        # DCGAN's small weights would leave the memory next to nothing to keep.
        for network in (self.word[-2:], self.draw):
            for layer in network.modules():
                if isinstance(layer, nn.ConvTranspose2d):
                    taps = layer.weight[0, 0].numel() // layer.stride[0] ** 2
                    nn.init.normal_(layer.weight, 0.0, (layer.in_channels * taps) ** -0.5)

        self.jitter = 0.0  # deviation of what training adds to each number of a word's vector
        self.register_load_state_dict_pre_hook(_resized)

    def forward(self, words: Tensor, noise: Tensor | None = None) -> Tensor:
        """Words' numbers (N, 25), blanks first, and noise (N, noise_dim), drawn if it is left
        out, to a picture after each word (N, 25, 3, R, R) in [-1, 1]."""
        if self.config.noise_dim and noise is None:
            noise = draw_normal(len(words), self.config.noise_dim, like=self.vectors)
        first = self._first(words)
        seen = words[:, first:]  # (N, T)
        maps = self._maps(seen, noise)
        here = (seen > 0)[:, :, None, None, None].to(maps.dtype)
        h = c = maps.new_zeros(maps[:, 0].shape)
        outputs = []
        for step in range(seen.shape[1]):
            h, c = self.memory(maps[:, step], (h, c))
            h, c = h * here[:, step], c * here[:, step]
            outputs.append(h)
        drawn = self._drawn(torch.stack(outputs, dim=1))
        if first:
            empty = self._drawn(torch.zeros_like(h)[:1, None])
            drawn = torch.cat((empty.expand(len(words), first, -1, -1, -1), drawn), dim=1)
        return drawn

    def _first(self, words: Tensor) -> int:
        """The columns that are blank in the whole joined batch, of which nothing is computed."""
        blank = int((words == 0).all(dim=0).long().cumprod(0).sum())
        blank = min(blank, WORDS - 1)
        return min(gather(blank)) if self.training else blank

    def _maps(self, words: Tensor, noise: Tensor | None) -> Tensor:
        """(N, T) to (N, T, maps, R, R)."""
        x = F.embedding(words, self.vectors)
        if self.training and self.jitter:
            x = x + self.jitter * draw_normal(len(x), *x.shape[1:], like=x)
        if noise is not None:
            x = torch.cat((x, noise[:, None].expand(-1, words.shape[1], -1)), dim=2)
        x = self.project(x.flatten(0, 1)).unflatten(1, (-1, self.side, self.side))
        return self.word(x).unflatten(0, words.shape)

    def _drawn(self, outputs: Tensor) -> Tensor:
        """The memory's outputs (N, T, maps, R, R) as pictures (N, T, 3, R, R)."""
        return self.draw(outputs.flatten(0, 1)).unflatten(0, outputs.shape[:2])


def _resized(network: Any, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Bring what belongs to places to the network's resolution, in weights of another one.

    So a network may start from one that was trained at fewer pixels (--init_from).
    """
    projection, peepholes = f"{prefix}project.weight", f"{prefix}memory.peepholes"
    rows = network.word[0].num_features
    if projection in weights and weights[projection].shape != network.project.weight.shape:
        places = weights[projection].unflatten(0, (rows, -1))  # (C, side^2, inputs)
        side = round(places.shape[1] ** 0.5)
        maps = places.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        maps = F.interpolate(maps, (network.side, network.side), mode="bilinear")
        weights[projection] = maps.permute(0, 2, 3, 1).flatten(0, 2)
        size = network.memory.peepholes.shape[-2:]
        weights[peepholes] = F.interpolate(weights[peepholes], size, mode="bilinear")
