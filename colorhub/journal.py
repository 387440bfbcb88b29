"""What became of the photos of earlier runs: a report, which a later run goes by.

It has a line of JSON for each photo that was tried, and tells which results are ours, from which
content of which photo, and by which settings.
"""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from colorhub.errors import OptionError, PhotoError, naming
from colorhub.files import sha256

REPORT = "colorhub-report.jsonl"
"""The report's name in the folder of results."""

# What a line of the report on a result holds at least; those on failures do not.
_NEEDED = {"input", "output", "sha256", "output_bytes", "output_mtime_ns", "output_sha256"}


@dataclass(frozen=True)
class Job:
    """A photo and the file for its colours."""

    photo: Path
    output: Path
    error: str = ""
    """Why nothing can come of it, where that is known from the start."""


class Report:
    """What became of each photo, in JSON lines; without a path nothing is read or written.

    Of several processes all but the first number the names of theirs; all are read. Paths of
    results are relative to the report's folder where they lie in it, so that it can be moved.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = Lock()
        self._file: int | None = None  # while it is being written
        self._by_output: dict[Path, list[dict[str, Any]]] = {}
        self._by_input: dict[str, Path] = {}
        for each in _numbered(path) if path else ():
            for line in _lines(each):
                output = place_of(each.parent / line["output"])
                self._by_output.setdefault(output, []).append(line)
                self._by_input[line["input"]] = output

    @contextmanager
    def writing(self, number: int = 0) -> Iterator[None]:
        """Lines can be told, by one of several processes. Raises PhotoError if that cannot be.

        Raises OptionError if another run is writing: both would make the same files.
        """
        if self._path is None:
            yield
            return
        path = self._path.with_stem(f"{self._path.stem}-{number}") if number else self._path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise PhotoError(f"{path} cannot be written ({error.strerror}).") from error
        try:
            claim(self._file, path)
            yield
        finally:
            os.close(self._file)
            self._file = None

    def tell(self, job: Job, **facts: Any) -> None:
        """Write a line, whole or not at all; an OSError if there is no room for it."""
        if self._path is None or self._file is None:
            return
        output = place_of(job.output)
        with suppress(ValueError):
            output = output.relative_to(place_of(self._path).parent)
        line = {"input": str(place_of(job.photo)), "output": str(output), **facts}
        content = json.dumps(line).encode() + b"\n"
        with self._lock, naming(self._path):
            size = os.fstat(self._file).st_size
            os.lseek(self._file, max(0, size - 1), os.SEEK_SET)
            if size and os.read(self._file, 1) != b"\n":
                content = b"\n" + content  # a killed run has left half a line
            if os.write(self._file, content) < len(content):  # the disk is full
                os.ftruncate(self._file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def of(self, output: Path) -> dict[str, Any] | None:
        """The line on a result as it is there now; None if it is not ours, or was changed since.

        A run that was killed may have left a line on a result that did not come to be.
        """
        lines, now = self._by_output.get(place_of(output), []), output.lstat()
        lines = [line for line in lines if line["output_bytes"] == now.st_size]
        for line in reversed(lines):
            if line["output_mtime_ns"] == now.st_mtime_ns:  # saves reading it
                return line
        found = sha256(output) if lines else ""  # a copy has another time
        return next((line for line in reversed(lines) if line["output_sha256"] == found), None)

    def done(self, job: Job, content: str, how: dict[str, Any], *, overwrite: bool) -> bool:
        """Whether a job's result is there, made from this content in this way.

        Raises PhotoError if something else is that must stay. That includes what we made of the
        photo before it changed: it may be another photo of the same name, from another camera's
        card in the same place.
        """
        try:
            line = self.of(job.output)
        except FileNotFoundError:
            return False
        if line is None:
            why = "and is not, or no longer, what an earlier run has written there"
        elif others := [name for name, value in how.items() if line.get(name) != value]:
            why = "made with another " + ", ".join(f"{name} ({line.get(name)})" for name in others)
        elif line["sha256"] != content:
            same = line["input"] == str(place_of(job.photo))
            why = "made before the photo changed" if same else f"made from {line['input']}"
        else:
            return True
        if not overwrite:
            raise PhotoError(f"{job.output} exists, {why}: give --overwrite to replace it.")
        return False

    def made(self, path: Path) -> bool:
        """Whether it is a result of an earlier run."""
        return place_of(path) in self._by_output

    def result_of(self, photo: Path) -> Path | None:
        """Where an earlier run has put a photo's result."""
        return self._by_input.get(str(place_of(photo)))

    def others(self, output: Path, photo: Path) -> bool:
        """Whether a result is there of a photo that still exists, and is not this one."""
        lines = self._by_output.get(place_of(output))
        if not lines or not os.path.exists(output):
            return False
        owner = Path(lines[-1]["input"])
        if owner == place_of(photo) or not os.path.exists(owner):
            return False
        try:  # the same by another name, or a copy, has the same result
            return not owner.samefile(photo) and sha256(photo) != lines[-1]["sha256"]
        except OSError:
            return True


def fingerprint(path: Path) -> dict[str, Any]:
    """What `Report.of` knows a result by; all of it stays when the file is renamed."""
    found = path.stat()
    return {
        "output_bytes": found.st_size,
        "output_mtime_ns": found.st_mtime_ns,
        "output_sha256": sha256(path),
    }


def place_of(path: Path) -> Path:
    """A file's absolute path, the same however its folder is spelled; a link keeps its name."""
    return folder_of(path.parent.absolute()) / path.name


@lru_cache(maxsize=4096)
def folder_of(folder: Path) -> Path:
    """A folder's real path, without links."""
    return Path(os.path.realpath(folder))


def _numbered(path: Path) -> list[Path]:
    """A report and those of further processes that are there."""
    pattern = re.compile(re.escape(path.stem) + r"(-\d+)?" + re.escape(path.suffix))
    with suppress(OSError):
        return sorted(each for each in path.parent.iterdir() if pattern.fullmatch(each.name))
    return []


def _lines(report: Path) -> Iterator[dict[str, Any]]:
    """The lines on results; what is damaged or cut off is passed over."""
    try:
        with report.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    line = json.loads(text)
                    texts = (line["input"], line["output"])
                    if line.keys() >= _NEEDED and all(isinstance(each, str) for each in texts):
                        yield line
    except OSError as error:
        raise PhotoError(f"{report} cannot be read ({error.strerror}).") from error


def claim(file: int, path: Path) -> None:
    """Hold a file for this process, as long as it lives, where the system knows how.

    Raises OptionError if another process holds it.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OptionError(f"Another run is at work on {path.parent}: wait for its end.") from None
    except (ImportError, OSError):
        pass
