"""A run's whole state on disk, written whole or not at all, without pickles.

A checkpoint is a folder `checkpoint-STEP` with one file, `state.safetensors`: every tensor under
the path that leads to it, everything else as JSON in the file's metadata; the same state makes the
same file. It is written beside its final name and renamed when it is complete, so a checkpoint that
is there is whole. Beside it, `notes.json` holds what is of this machine and this hour.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from colorhub.errors import TrainingError

_NAME = re.compile(r"checkpoint-(\d+)")
_FILE, _NOTES = "state.safetensors", "notes.json"


def save(
    folder: Path,
    step: int,
    state: dict[str, Any],
    *,
    notes: dict[str, Any] | None = None,
    keep: int | None = None,
) -> Path:
    """Write `checkpoint-STEP` into folder, then delete all but the `keep` newest.

    `state` holds dicts, lists, tensors, numbers, strings and None. Raises TrainingError if the
    disk is full or read-only; older checkpoints are then left as they are.
    """
    final = folder / f"checkpoint-{step}"
    part = folder / f".part-{step}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        outline = _take_tensors(state, "", tensors)
        save_file(tensors, part / _FILE, metadata={"outline": json.dumps(outline)})
        (part / _NOTES).write_text(json.dumps(notes or {}))
        for name in (_NOTES, _FILE):
            _sync(part / name)
        if final.exists():
            for name in (_NOTES, _FILE):
                (part / name).replace(final / name)
            part.rmdir()
        else:
            _sync(part)
            part.rename(final)
        _sync(folder)
    except Exception as error:  # safetensors has its own error for a full disk
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingError(
            f"{final} cannot be written ({error}); earlier ones are intact. When there is room, "
            "go on with --resume_from_checkpoint latest."
        ) from error
    if keep is not None:
        for old in sorted(_all(folder))[:-keep]:
            # Under another name first: what is deleted halfway must not pass for a checkpoint.
            (folder / f"checkpoint-{old}").rename(folder / f".part-{old}")
        for left_over in folder.glob(".part-*"):
            shutil.rmtree(left_over)
    return final


def load(path: Path) -> dict[str, Any]:
    """The state that `save` wrote. Raises TrainingError if it is missing or damaged."""
    try:
        with safe_open(path / _FILE, "pt") as file:
            outline = json.loads(file.metadata()["outline"])
        return _put_tensors(outline, load_file(path / _FILE))
    except Exception as error:
        raise TrainingError(f"{path} is no checkpoint that can be resumed ({error}).") from error


def notes(path: Path) -> dict[str, Any]:
    """What `save` noted beside the state; nothing if that is not there."""
    try:
        return json.loads((path / _NOTES).read_text())
    except (OSError, ValueError):
        return {}


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in folder, None if there is none."""
    steps = _all(folder)
    return folder / f"checkpoint-{max(steps)}" if steps else None


def _all(folder: Path) -> list[int]:
    whole = (path.parent for path in folder.glob(f"*/{_FILE}"))
    return [step for path in whole if (step := step_of(path)) is not None]


def _sync(path: Path) -> None:
    """Until the disk has it, a power cut could leave a renamed but empty file."""
    if os.name == "nt":
        return  # where folders cannot be opened
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The value's outline for JSON; keys are kept as pairs because optimisers number theirs."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        return {"dict": [[k, _take_tensors(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_take_tensors(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path}: a {type(value).__name__} cannot be kept in a checkpoint")


def _put_tensors(outline: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(outline, dict):
        return outline
    if "tensor" in outline:
        return tensors[outline["tensor"]]
    if "list" in outline:
        return [_put_tensors(value, tensors) for value in outline["list"]]
    return {key: _put_tensors(value, tensors) for key, value in outline["dict"]}
