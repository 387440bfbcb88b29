"""Pictures from sentences, by a variant of kind text."""

import os
from dataclasses import dataclass
from typing import Any

from PIL import Image

from colorhub import hub, weights
from colorhub.colorizer import pick_device
from colorhub.errors import OptionError
from colorhub.generators import KINDS
from colorhub.painting import as_image, painted
from colorhub.vocabulary import WORDS, Vocabulary, tokens


@dataclass(frozen=True)
class Heard:
    """What a variant makes of a sentence: the words that it paints after, in order, those it does
    not know, and the known ones after the 25th, which it leaves out."""

    words: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def warning(self) -> str:
        """A sentence for whoever typed it, or nothing if all was heard."""
        parts = []
        if self.unknown:
            parts.append(f"Unknown, and passed over: {', '.join(self.unknown)}.")
        if self.left_out:
            parts.append(f"After the {WORDS}th word, and left out: {', '.join(self.left_out)}.")
        return " ".join(parts)


class Painter:
    """A network that paints sentences, on one device; `heard` is the last sentence's."""

    def __init__(
        self, generator: Any, *, device: str = "auto", variant: hub.Variant | None = None
    ) -> None:
        self.device = pick_device(device)
        self.generator = generator.to(self.device).eval()
        self.variant = variant
        self.vocabulary = Vocabulary(generator.config.vocabulary.split())
        self.heard = Heard(())

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        token: str | bool | None = None,
    ) -> "Painter":
        """The variant of kind text with this name: bundled, a folder, or owner/name on the Hub.

        Raises NotFoundError, HubError, or VariantError if the variant is damaged or of another
        kind.
        """
        variant = hub.resolve(name, revision=revision, token=token)
        return cls(weights.load(variant.folder, KINDS["text"]), device=device, variant=variant)

    def listen(self, sentence: str) -> Heard:
        """What is known of a sentence. Raises OptionError if not one word is."""
        known = [word for word in tokens(sentence) if word in self.vocabulary]
        unknown = tuple(self.vocabulary.unknown(sentence))
        if not known:
            said = f"None of these words is known: {', '.join(unknown)}." if unknown else ""
            some = ", ".join(self.vocabulary.words[:12])
            raise OptionError(f"{said or 'There is no word.'} Known are, among others: {some}.")
        return Heard(tuple(known[:WORDS]), unknown, tuple(known[WORDS:]))

    def paint(self, sentence: str, *, seed: int = 0) -> list[Image.Image]:
        """25 pictures, one a word; the last is the sentence's.

        Unknown words are passed over and named in `heard`; of a longer sentence the first 25 known
        words are taken. A shorter one stands at the end, after blanks whose pictures are empty and
        all the same, so the pictures of its words are the last `len(heard.words)`. The same
        sentence and seed give the same pictures. Raises OptionError if no word is known.
        """
        if not 0 <= seed < 2**63:
            raise OptionError(f"--seed is {seed}; it must be 0 or more, and below 2^63.")
        self.heard = self.listen(sentence)
        words = " ".join(self.heard.words)
        (pictures,) = painted(self.generator, [words], device=self.device, seeds=[seed])
        return [as_image(picture) for picture in pictures]
