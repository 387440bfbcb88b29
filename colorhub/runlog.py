"""A run's log as a table."""

import csv
from pathlib import Path
from typing import Any


class Log:
    """training_log.csv: a row every few steps, cut back to the checkpoint on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, float]) -> None:
        """Add a row; a column that is new makes the file anew with it."""
        rows = self._rows()
        columns = list(rows[0]) if rows else []
        if set(row) <= set(columns):
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, columns).writerow(_rounded(row))
        else:
            self._write([*rows, _rounded(row)])

    def cut(self, step: int, *, every: int) -> None:
        """Forget the rows after `step`, and those of runs that stopped between two full rows."""
        rows = [(int(row["step"]), row) for row in self._rows()]
        self._write([row for at, row in rows if at <= step and at % every == 0])

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        part = self.path.with_suffix(".part")
        with open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)


def _rounded(row: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in row.items()}
