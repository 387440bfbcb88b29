"""What is done of a film so far: segments in a hidden folder beside the output, and where to go on.

A segment counts once the state says so, and the state is replaced as a whole: a run that is killed
loses what it did since its last segment, and nothing else.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from colorhub.errors import naming
from colorhub.journal import claim

_STATE = "state.safetensors"


class Parts:
    """The segments of one film by one variant and one way of colouring, which are its `pins`.

    As a context they belong to this process. Raises OptionError if they belong to another. What
    was made with other pins is thrown away.
    """

    def __init__(self, output: Path, pins: dict[str, Any]) -> None:
        self.folder = folder_of_parts(output)
        self.pins = json.dumps(pins, sort_keys=True)
        self.count = self.frames = 0
        self.last: int | None = None  # time of the last frame that is done
        self.until = 0  # when that frame ends
        self.tensors: dict[str, Tensor] = {}
        self._lock: int | None = None

    def __enter__(self) -> "Parts":
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            claim(self._lock, self.folder)
            self._read()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    @property
    def segments(self) -> list[Path]:
        """Those that are done, in order."""
        return [self._path(number) for number in range(self.count)]

    @property
    def next(self) -> Path:
        """Where the next segment is to be written."""
        return self._path(self.count)

    def keep(self, frames: int, last: int, until: int, tensors: dict[str, Tensor]) -> None:
        """The next segment is done: its frames, the last one's time and end, and what follows."""
        with open(self.next, "rb") as file:
            os.fsync(file.fileno())
        self.count, self.frames = self.count + 1, self.frames + frames
        self.last, self.until, self.tensors = last, until, tensors
        facts = {"count": self.count, "frames": self.frames, "last": last, "until": until}
        new = self.folder / "state.new"
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, new, metadata={"pins": self.pins, "facts": json.dumps(facts)})
        os.replace(new, self.folder / _STATE)

    def remove(self) -> None:
        """The film is done: nothing of it is needed any longer."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}.nut"

    def _read(self) -> None:
        try:
            with safe_open(self.folder / _STATE, framework="pt") as file:
                told = file.metadata()
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            facts = json.loads(told["facts"])
            there = all(self._path(number).is_file() for number in range(facts["count"]))
            if told["pins"] == self.pins and there:
                self.count, self.frames = facts["count"], facts["frames"]
                self.last, self.until, self.tensors = facts["last"], facts["until"], tensors
                return
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            pass
        for path in self.folder.iterdir():
            if path.suffix in (".nut", ".safetensors", ".new"):
                path.unlink()


def folder_of_parts(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(f".{output.name[:200]}.part")
