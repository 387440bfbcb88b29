"""A generator's pictures of sentences, and how they are shown."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from colorhub.vocabulary import Vocabulary

SMALLEST = 64  # pixels of a picture's side on a sheet, so that words fit above it
_LINE, _GAP, _BATCH = 18, 2, 16


@torch.no_grad()
def painted(
    generator: Any,
    sentences: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    seeds: Sequence[int] = (),
) -> Tensor:
    """Pictures of sentences, one a word: (N, 25, 3, R, R) in [-1, 1], on the CPU.

    Each sentence has noise of its own seed, or all of seed 0. Unknown words are passed over.
    """
    vocabulary = Vocabulary(generator.config.vocabulary.split())
    words = torch.tensor([vocabulary.ids(vocabulary.known(each)) for each in sentences])
    noise = torch.stack([_noise(generator, seed) for seed in seeds or [0] * len(sentences)])
    parts = zip(words.split(_BATCH), noise.split(_BATCH), strict=True)
    pictures = [generator(some.to(device), beside.to(device)) for some, beside in parts]
    return torch.cat([each.float().cpu() for each in pictures])


def _noise(generator: Any, seed: int) -> Tensor:
    return torch.randn(generator.config.noise_dim, generator=torch.Generator().manual_seed(seed))


def as_image(picture: Tensor) -> Image.Image:
    """(3, R, R) in [-1, 1] as PIL RGB."""
    levels = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def strip(pictures: Sequence[Image.Image], words: Sequence[str]) -> Image.Image:
    """The pictures of a sentence's words, the last ones, side by side, each under its word."""
    own = pictures[len(pictures) - len(words) :]
    side = max(SMALLEST, own[0].width)
    page = Image.new("RGB", (len(own) * (side + _GAP) - _GAP, side + _LINE), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=12)
    for left, word, picture in zip(range(0, page.width, side + _GAP), words, own, strict=False):
        draw.text((left + 2, 2), word, fill="black", font=font)
        page.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (left, _LINE))
    return page


def sheet(
    generator: Any, sentences: Sequence[str], *, device: torch.device | str = "cpu"
) -> Image.Image:
    """The strips of several sentences, one below the other."""
    vocabulary = Vocabulary(generator.config.vocabulary.split())
    strips = [
        strip([as_image(picture) for picture in pictures], vocabulary.known(sentence))
        for sentence, pictures in zip(
            sentences, painted(generator, sentences, device=device), strict=True
        )
    ]
    width, height = max(each.width for each in strips), strips[0].height
    page = Image.new("RGB", (width, height * len(strips)), "white")
    for row, each in enumerate(strips):
        page.paste(each, (0, row * height))
    return page
