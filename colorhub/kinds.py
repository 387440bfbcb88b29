"""Kinds of variants: what each makes pictures from, and what a card says of it."""

from dataclasses import dataclass

_PLAUSIBLE = """\
Colours are inferred, not remembered: they are plausible at best, and never evidence of what a
scene looked like. Keep the grey original, and mark what you publish as colorized. Uncommon
objects, clothes and skin tones tend towards the average of the training data.
"""
_INVENTED = """\
The pictures are invented. What the network cannot draw well, and what it has never seen, it draws
badly; pictures may resemble those it was trained on.
"""


@dataclass(frozen=True)
class Kind:
    """What is true of every variant of a kind; `{name}` and `{network}` stand for the variant's."""

    tag: str  # by which published variants are found
    pipeline: str  # the Hub's word for the task
    topics: tuple[str, ...]  # further tags
    task: str
    does: str
    use: str
    limits: str


KINDS = {
    "photo": Kind(
        tag="colorhub-variant",
        pipeline="image-to-image",
        topics=("image-colorization",),
        task="Image colorization",
        does="Colours black-and-white photos with {network}",
        use="""```python
from colorhub import Colorizer

colorizer = Colorizer.from_pretrained("{name}")
colorizer.colorize("photo.jpg").save("photo-in-color.jpg")
```

or `colorhub colorize photo.jpg --variant {name} --output photo-in-color.jpg`
""",
        limits=_PLAUSIBLE,
    ),
    "video": Kind(
        tag="colorhub-video",
        pipeline="video-to-video",
        topics=("video-colorization",),
        task="Video colorization",
        does="Colours black-and-white films with {network}",
        use="`colorhub colorize film.mp4 --variant {name} --output film-in-color.mp4`\n",
        limits=_PLAUSIBLE,
    ),
    "text": Kind(
        tag="colorhub-text",
        pipeline="text-to-image",
        topics=("text-to-image",),
        task="Text to image",
        does="Draws pictures from sentences with {network}",
        use="""```python
from colorhub.words import Painter

painter = Painter.from_pretrained("{name}")
pictures = painter.paint("a photo of a yellow sunflower flower", seed=0)  # one a word
pictures[-1].save("flower.png")
```

or `colorhub paint "a photo of a yellow sunflower flower" --variant {name} --output flower.png`
""",
        limits=_INVENTED,
    ),
    "noise": Kind(
        tag="colorhub-noise",
        pipeline="unconditional-image-generation",
        topics=("unconditional-image-generation",),
        task="Unconditional image generation",
        does="Draws pictures from random numbers with {network}",
        use="""```python
from colorhub.sampling import Sampler

sampler = Sampler.from_pretrained("{name}")
sampler.sample(16, seed=0)[0].save("first.png")
```

or `colorhub sample --variant {name} --count 16 --output sheet.png`
""",
        limits=_INVENTED,
    ),
}
