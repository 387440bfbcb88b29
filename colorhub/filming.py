"""A film in, a film in colour out: streamed, resumable, with its sound and its times."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import torch

from colorhub import films, hub, weights
from colorhub.album import Outcome, reason
from colorhub.colorizer import Colorizer, join
from colorhub.errors import ColorhubError, FilmError
from colorhub.files import sha256
from colorhub.films import Film, Frame
from colorhub.flow import need_opencv
from colorhub.generators import KINDS
from colorhub.journal import Job, Report, fingerprint
from colorhub.parts import Parts
from colorhub.photos import whole
from colorhub.reels import Segment, check_ending
from colorhub.reels import join as join_segments
from colorhub.windows import Seen, Windows

T = TypeVar("T")

SEGMENT = 120  # frames, which are lost at the most when a run is killed
AHEAD = 4  # frames that are decoded before they are asked for


@dataclass(frozen=True)
class Settings:
    """How films are coloured, see `Colorizer.colorize`; `smooth` steadies colours along motion."""

    strength: float = 1.0
    seed: int = 0
    ab_gain: float | None = None
    smooth: bool = False
    note: bool = False


@dataclass(frozen=True)
class Step:
    """How far a film has come: frames done, of these by an earlier run, and about all."""

    done: int
    before: int
    total: int


def load(variant: hub.Variant, device: str = "auto") -> Colorizer:
    """A variant of photos or of films, ready for films. Raises VariantError or OptionError."""
    network = weights.load(variant.folder, {**KINDS["photo"], **KINDS["video"]})
    return Colorizer(network, device=device, variant=variant)


@dataclass
class Filming:
    """Colours films with one variant, one after the other, and reports on each."""

    colorizer: Colorizer
    settings: Settings
    report: Report = field(default_factory=Report)
    overwrite: bool = False
    salvage: bool = False

    def __post_init__(self) -> None:
        self._how = {"variant": self.colorizer.note.removeprefix("colorized by ")}
        self._how |= asdict(self.settings)

    def color(self, job: Job) -> Generator[Step | Outcome, None, None]:
        """Colour a film: a Step after each frame, and at last what became of it.

        Frames that are done stay done, also if this is closed before its end.
        """
        start = time.perf_counter()
        try:
            if job.error:
                raise FilmError(job.error)
            ending = check_ending(job.output)
            if self.settings.smooth:
                need_opencv()
            film = films.open_film(job.photo)
            content = sha256(job.photo)
            if self.report.done(job, content, self._how, overwrite=self.overwrite):
                yield Outcome(job, skipped=True)
                return
            with Parts(job.output, self._pins(content, ending)) as parts:
                yield from self._frames(film, parts, ending)
                warnings = film.warnings + self._joined(job, film, parts, ending, content, start)
                parts.remove()
            yield Outcome(job, warnings=warnings)
        except Exception as error:
            yield self._failed(job, error)

    def _pins(self, content: str, ending: str) -> dict[str, object]:
        """What must be the same for a run to go on where another stopped."""
        import av

        return {"sha256": content, "ending": ending, "av": av.__version__, **self._how}

    def _frames(self, film: Film, parts: Parts, ending: str) -> Iterator[Step]:
        """Colour what is not done yet, segment by segment."""
        settings, before = self.settings, parts.frames
        gain = self.colorizer.gain(settings.ab_gain)
        windows = Windows(
            self.colorizer, seed=settings.seed, smooth=settings.smooth, state=parts.tensors
        )
        found = films.frames(film, after=parts.last, salvage=self.salvage)
        with closing(_ahead(self._seen(found), AHEAD)) as ready:
            groups = windows.groups(ready)
            more = True
            while more:
                last: Frame | None = None
                with Segment(parts.next, film, ending) as segment:
                    for group in groups:
                        for last, ab in group:
                            levels = join(
                                last.picture.levels, ab * gain, strength=settings.strength
                            )
                            segment.write(last.pts, levels)
                            yield Step(parts.frames + segment.frames, before, film.frames)
                        if segment.frames >= SEGMENT:
                            break
                    else:
                        more = False
                if last is not None:
                    until = last.pts + last.duration
                    parts.keep(segment.frames, last.pts, until, windows.state)
        if not parts.frames:
            raise FilmError(f"{film.path} has no frames that can be read: it is empty or damaged.")

    def _seen(self, found: Iterator[Frame]) -> Iterator[Seen]:
        for frame in found:
            yield Seen(frame, self.colorizer.seen(frame.picture))

    def _joined(
        self, job: Job, film: Film, parts: Parts, ending: str, content: str, start: float
    ) -> tuple[str, ...]:
        """Put the film together; warnings."""
        assert parts.last is not None
        until = max(parts.until, film.end or 0)
        with whole(job.output) as part:
            warnings = join_segments(
                film, parts.segments, part, ending, last=until - parts.last,
                note=self.colorizer.note if self.settings.note else "",
            )  # fmt: skip
            # Before the file has its place, as with photos.
            self.report.tell(
                job,
                seconds=round(time.perf_counter() - start, 4),
                frames=parts.frames,
                warnings=film.warnings + warnings,
                sha256=content,
                **fingerprint(part),
                **self._how,
            )
        return warnings

    def _failed(self, job: Job, error: Exception) -> Outcome:
        text = str(error) if isinstance(error, ColorhubError) else reason(error)
        if str(job.photo) not in text:
            text = f"{job.photo}: {text}"
        with suppress(OSError):  # a full disk, which the error tells
            self.report.tell(job, error=text)
        return Outcome(job, text)


def _ahead(items: Iterator[T], most: int) -> Generator[T, None, None]:
    """Items made by a thread of its own, so many before they are asked for."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            coming = deque(pool.submit(next, items, None) for _ in range(most))
            while (item := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
