"""Many photos: decoded, coloured in batches and encoded side by side; resumable, with a report."""

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from colorhub.colorizer import Colorizer, join
from colorhub.decoding import check_file, read
from colorhub.errors import ColorhubError, PhotoError
from colorhub.files import sha256
from colorhub.journal import Job, Report, fingerprint
from colorhub.originals import Original
from colorhub.photos import ending, whole
from colorhub.results import encode


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: done unless there is an error, or it was done before."""

    job: Job
    error: str = ""
    skipped: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How photos are coloured, see `Colorizer.colorize_file`."""

    strength: float = 1.0
    seed: int = 0
    ab_gain: float | None = None
    salvage: bool = False
    profile: str = "srgb"
    note: bool = False


@dataclass(frozen=True)
class _Read:
    job: Job
    original: Original
    seen: Tensor
    """What the network is given."""
    digest: str
    seconds: float


@dataclass
class Album:
    """Colours many photos with one variant, and reports on each.

    `batch_size` photos of one shape pass the network together, by default 1 on a CPU and 8
    elsewhere; `workers` threads decode and encode beside it, by default one a core. At most
    3 `batch_size` + 2 `workers` photos are in memory at a time.
    """

    colorizer: Colorizer
    settings: Settings
    report: Report = field(default_factory=Report)
    overwrite: bool = False
    batch_size: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        self._how = {"variant": self.colorizer.note.removeprefix("colorized by ")}
        self._how |= asdict(self.settings)

    def color(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Colour photos and yield what became of each; what fails does not stop the others."""
        on_cpu, threads = self.colorizer.device.type == "cpu", torch.get_num_threads()
        workers = self.workers or threads
        batch_size = self.batch_size or (1 if on_cpu else 8)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                if on_cpu and workers > 1:
                    torch.set_num_threads(1)  # the workers keep the other cores busy
                yield from self._flow(pool, deque(jobs), batch_size, 2 * workers)
            finally:
                torch.set_num_threads(threads)
                pool.shutdown(cancel_futures=True)

    def _flow(
        self, pool: ThreadPoolExecutor, jobs: deque[Job], batch_size: int, most: int
    ) -> Generator[Outcome, None, None]:
        """At most `most` photos are with the workers, and two batches wait for the network."""
        reading: deque[Future[_Read | Outcome]] = deque()
        writing: deque[Future[Outcome]] = deque()
        waiting: dict[torch.Size, list[_Read]] = {}  # what can pass the network together
        while jobs or reading or waiting or writing:
            while jobs and len(reading) + len(writing) < most:
                reading.append(pool.submit(self._read, jobs.popleft()))
            if reading:
                photo = reading.popleft().result()
                if isinstance(photo, Outcome):
                    yield photo
                else:
                    waiting.setdefault(photo.seen.shape, []).append(photo)
            shape = _ready(waiting, batch_size, last=not (jobs or reading))
            if shape:
                batch, start = waiting.pop(shape), time.perf_counter()
                colors = self._predict(batch)
                each = (time.perf_counter() - start) / len(batch)
                for photo, ab in zip(batch, colors, strict=True):
                    writing.append(pool.submit(self._write, photo, ab, each))
            elif writing and not reading:  # the workers have their fill of writing
                yield writing.popleft().result()
            while writing and writing[0].done():
                yield writing.popleft().result()

    def _read(self, job: Job) -> _Read | Outcome:
        start = time.perf_counter()
        try:
            if job.error:
                raise PhotoError(job.error)
            check_file(job.photo)
            content = sha256(job.photo)
            if self.report.done(job, content, self._how, overwrite=self.overwrite):
                return Outcome(job, skipped=True)
            original = read(job.photo, salvage=self.settings.salvage)
            seen = self.colorizer.seen(original)
            return _Read(job, original, seen, content, time.perf_counter() - start)
        except Exception as error:
            return self._failed(job, error)

    def _predict(self, photos: Sequence[_Read]) -> Sequence[Tensor | Exception]:
        try:
            seen = torch.cat([photo.seen for photo in photos])
            return self.colorizer(seen, seed=self.settings.seed).split(1)
        except Exception as error:
            if len(photos) == 1:
                return [error]
        return [ab for photo in photos for ab in self._predict([photo])]  # not all need to fail

    def _write(self, photo: _Read, ab: Tensor | Exception, network: float) -> Outcome:
        start, job, settings = time.perf_counter(), photo.job, self.settings
        try:
            if isinstance(ab, Exception):
                raise ab
            ab = ab * self.colorizer.gain(settings.ab_gain)
            levels = join(
                photo.original.levels, ab, strength=settings.strength, bits=photo.original.bits
            )
            with whole(job.output) as part:
                warnings = photo.original.warnings + encode(
                    part,
                    ending(job.output),
                    levels,
                    photo.original,
                    profile=settings.profile,
                    note=self.colorizer.note if settings.note else None,
                )
                # Before the file has its place: were it the other way round, a run killed in
                # between would leave a result that the next one takes for somebody else's.
                self.report.tell(
                    job,
                    seconds=round(photo.seconds + network + time.perf_counter() - start, 4),
                    warnings=warnings,
                    sha256=photo.digest,
                    **fingerprint(part),
                    **self._how,
                )
            return Outcome(job, warnings=warnings)
        except Exception as error:
            return self._failed(job, error)

    def _failed(self, job: Job, error: Exception) -> Outcome:
        text = str(error) if isinstance(error, ColorhubError) else reason(error)
        if str(job.photo) not in text:
            text = f"{job.photo}: {text}"
        with suppress(OSError):  # a full disk, which the error tells
            self.report.tell(job, error=text)
        return Outcome(job, text)


def _ready(
    waiting: dict[torch.Size, list[_Read]], batch_size: int, *, last: bool
) -> torch.Size | None:
    """The shape of the photos to pass the network next, if it is their turn.

    That is when they fill a batch; or when many wait, and they have waited longest: few photos of
    odd shapes must not take the place of those that fill batches.
    """
    full = [shape for shape, photos in waiting.items() if len(photos) >= batch_size]
    many = sum(map(len, waiting.values())) >= 2 * batch_size
    return next(iter(full or (waiting if many or last else ())), None)


def reason(error: Exception) -> str:
    """What is said of an error that is none of ours."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, MemoryError) or "not enough memory" in str(error):
        return "it does not fit into this machine's memory."
    # A fault of ours, which must not stop the others.
    return " ".join(f"{type(error).__name__}: {error}".split())
