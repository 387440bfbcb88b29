"""Many photos: decoded, coloured in batches and encoded side by side; resumable, with a report.

The report has a line of JSON for each photo that was tried. It is also what a later run goes by:
a photo whose content, variant and settings are those of a line, and whose result still has the
size that it was written with, is done.
"""

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from colorhub.colorizer import Colorizer, join
from colorhub.errors import ColorhubError, PhotoError
from colorhub.jobs import Job
from colorhub.originals import Original, read
from colorhub.photos import ending, whole
from colorhub.results import encode
from colorhub.weights import sha256

REPORT = "colorhub-report{}.jsonl"
"""The report's name in the folder of results; several processes number theirs."""


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
    `batch_size` + 2 `workers` photos are in memory at a time.
    """

    colorizer: Colorizer
    settings: Settings
    report: Path | None = None
    overwrite: bool = False
    batch_size: int | None = None
    workers: int | None = None
    _known: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        self._how = {"variant": self.colorizer.note.split()[-1]} | asdict(self.settings)
        if self.report is None:
            return
        self.report.parent.mkdir(parents=True, exist_ok=True)
        for report in {self.report, *self.report.parent.glob(REPORT.format("*"))}:
            self._known |= {line["output"]: line for line in _lines(report)}

    def color(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Colour photos and yield what became of each; what fails does not stop the others."""
        on_cpu, threads = self.colorizer.device.type == "cpu", torch.get_num_threads()
        workers = self.workers or threads
        batch_size = self.batch_size or (1 if on_cpu else 8)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                if on_cpu and workers > 1:
                    torch.set_num_threads(1)  # the workers keep the other cores busy
                yield from self._flow(pool, deque(jobs), batch_size, batch_size + 2 * workers)
            finally:
                torch.set_num_threads(threads)
                pool.shutdown(cancel_futures=True)

    def _flow(
        self, pool: ThreadPoolExecutor, jobs: deque[Job], batch_size: int, most: int
    ) -> Iterator[Outcome]:
        reading: deque[Future[_Read | Outcome]] = deque()
        writing: deque[Future[Outcome]] = deque()
        waiting: dict[torch.Size, list[_Read]] = {}  # what can pass the network together
        while jobs or reading or waiting or writing:
            held = len(reading) + len(writing) + sum(map(len, waiting.values()))
            while jobs and held < most:
                reading.append(pool.submit(self._read, jobs.popleft()))
                held += 1
            if reading:
                photo = reading.popleft().result()
                if isinstance(photo, Outcome):
                    yield photo
                else:
                    waiting.setdefault(photo.seen.shape, []).append(photo)
            batch = max(waiting.values(), key=len, default=[])
            if batch and (len(batch) >= batch_size or not reading):
                del waiting[batch[0].seen.shape]
                start = time.perf_counter()
                colors = self._predict(batch)
                each = (time.perf_counter() - start) / len(batch)
                for photo, ab in zip(batch, colors, strict=True):
                    writing.append(pool.submit(self._write, photo, ab, each))
            while writing and (writing[0].done() or not (reading or waiting)):
                yield writing.popleft().result()

    def _read(self, job: Job) -> _Read | Outcome:
        start = time.perf_counter()
        try:
            digest = sha256(job.photo)
            if job.output.exists():
                line = self._known.get(str(job.output), {})
                same = line.items() >= {"sha256": digest, **self._how}.items()
                if same and line.get("bytes") == job.output.stat().st_size:
                    return Outcome(job, skipped=True)
                if not self.overwrite:
                    raise PhotoError(f"{job.output} exists: give --overwrite to replace it.")
            original = read(job.photo, salvage=self.settings.salvage)
            seen = self.colorizer.seen(original)
            return _Read(job, original, seen, digest, time.perf_counter() - start)
        except Exception as error:
            return self._failed(job, error)

    def _predict(self, photos: Sequence[_Read]) -> Sequence[Tensor | Exception]:
        try:
            seen = torch.cat([photo.seen for photo in photos])
            return self.colorizer(seen, seed=self.settings.seed).split(1)
        except Exception as error:
            return [error] * len(photos)

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
                self._tell(
                    job,
                    seconds=round(photo.seconds + network + time.perf_counter() - start, 4),
                    warnings=warnings,
                    sha256=photo.digest,
                    bytes=part.stat().st_size,
                    **self._how,
                )
            return Outcome(job, warnings=warnings)
        except Exception as error:
            return self._failed(job, error)

    def _failed(self, job: Job, error: Exception) -> Outcome:
        text = str(error) if isinstance(error, ColorhubError) else _reason(error)
        if str(job.photo) not in text:
            text = f"{job.photo}: {text}"
        self._tell(job, error=text)
        return Outcome(job, text)

    def _tell(self, job: Job, **facts: Any) -> None:
        if self.report is None:
            return
        line = {"input": str(job.photo), "output": str(job.output), **facts}
        with self._lock, self.report.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(line) + "\n")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, MemoryError) or "not enough memory" in str(error):
        return "it does not fit into this machine's memory."
    return f"{type(error).__name__}: {error}"  # a fault of ours, which must not stop the others


def _lines(report: Path) -> Iterator[dict[str, Any]]:
    """The lines of results; the last may have been cut off."""
    text = report.read_text(encoding="utf-8", errors="replace") if report.exists() else ""
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError):
            facts = json.loads(line)
            if "sha256" in facts and facts["output"]:
                yield facts
