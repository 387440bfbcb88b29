"""What a run tells: its log as a table, the photos it could not use, lines for whoever watches."""

import csv
import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from colorhub.errors import naming
from colorhub.ranks import gather


def say(line: str) -> None:
    """A line for whoever watches, beside the progress bar."""
    tqdm.write(line, file=sys.stderr)


class Log:
    """training_log.csv: a row every few steps, cut back to the checkpoint on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []  # once this process has written the file

    def append(self, row: dict[str, float]) -> None:
        """Add a row; a column that is new makes the file anew with it."""
        if set(row) <= set(self._columns):
            with naming(self.path), open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(_rounded(row))
        else:
            self._write([*self._rows(), _rounded(row)])

    def cut(self, step: int, *, open_row: bool = False) -> None:
        """Forget the rows after `step`, and with `open_row` its own: it is to be made anew."""
        last = step - open_row
        self._write([row for row in self._rows() if int(row["step"]) <= last])

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            rows = list(csv.DictReader(file))
        # A full disk or a power cut may have left the last line in half.
        return [row for row in rows if None not in row.values()]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        part = self.path.with_suffix(".part")
        with naming(self.path), open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)
        self._columns = columns


def _rounded(row: dict[str, float]) -> dict[str, str]:
    return {
        name: f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in row.items()
    }


class Skipped:
    """skipped.txt: photos that could not be used, a line each with the reason, each once.

    Processes that share the folder add to the same file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[str] = set()

    def add(self, reasons: list[str]) -> None:
        """Add those that are new to this process and to the file."""
        lines = [" ".join(reason.split()) for reason in reasons]
        if set(lines) <= self._known:
            return
        self._known |= set(self.lines())
        new = [line for line in dict.fromkeys(lines) if line not in self._known]
        self._known |= set(new)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in new))

    def summary(self, most: int = 20) -> str:
        """The first of them, in one line; to be called by all processes."""
        lines = list(dict.fromkeys(line for each in gather(self.lines()) for line in each))
        more = f" and {len(lines) - most} more" if len(lines) > most else ""
        return f"Skipped were: {'; '.join(lines[:most])}{more} (see {self.path})." if lines else ""

    def lines(self) -> list[str]:
        """What is in the file, in order."""
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
