"""What the command line tells while it works."""

import os
import sys
import time
from typing import TextIO


class Progress:
    """Photos, or a film's frames, a second and the time that is left: a bar, or lines in a log.

    What was done before does not count for the pace. Lines can be told meanwhile, also to a reader
    that has gone: what it wanted to read is less than what is being done.
    """

    EVERY = 30.0  # seconds between lines

    def __init__(self, total: int, *, quiet: bool, unit: str = "photos") -> None:
        from tqdm import tqdm

        quiet = quiet or total < 2
        self._unit = unit
        self._tqdm, self._total, self._done, self._skipped = tqdm, total, 0, 0
        self._logs = not (quiet or sys.stderr.isatty())
        self._bar = tqdm(
            total=total,
            unit=f" {unit}",
            smoothing=0,  # the pace since the start, of those that were not skipped
            disable=quiet or self._logs,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left",
        )
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bar.close()

    def tell(self, line: str, stream: TextIO) -> None:
        with self._bar.external_write_mode(stream):
            print_line(line, stream)

    def count(self, number: int = 1, *, skipped: bool) -> None:
        self._done += number
        self._skipped += number * skipped
        self._bar.initial = self._skipped
        self._bar.update(number)
        now = time.monotonic()
        if self._logs and now - self._last > self.EVERY:
            self._last = now
            line = self._tqdm.format_meter(
                self._done,
                self._total,
                now - self._start,
                initial=self._skipped,
                unit=f" {self._unit}",
                bar_format="{n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left",
            )
            self.tell(f"colorhub: {line}.", sys.stderr)


def print_line(line: str, stream: TextIO) -> None:
    """Write a line at once, for who follows; where that has gone, this and later ones are lost."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())


def complain(message: str) -> None:
    """What a command has to say of what went wrong, on stderr."""
    print_line(f"colorhub: {message}", sys.stderr)
