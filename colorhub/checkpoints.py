"""A run's whole state on disk, written whole or not at all, without pickles.

A checkpoint is a folder `checkpoint-STEP` with `state.safetensors` (every tensor, under the path
that leads to it) and `state.json` (everything else). It is written beside its final name and
renamed when it is complete, so a name that exists is a checkpoint that is whole.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from colorhub.errors import DataError

_NAME = re.compile(r"checkpoint-(\d+)")


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int | None = None) -> Path:
    """Write `checkpoint-STEP` into folder, then delete all but the `keep` newest.

    `state` holds dicts, lists, tensors, numbers, strings and None. Raises DataError if the disk is
    full or read-only; older checkpoints are then left as they are.
    """
    final = folder / f"checkpoint-{step}"
    part = folder / f".part-{step}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        outline = _take_tensors(state, "", tensors)
        save_file(tensors, part / "state.safetensors")
        (part / "state.json").write_text(json.dumps(outline))
        for path in (part / "state.safetensors", part / "state.json", part):
            _sync(path)
        if final.exists():
            final.rename(older := folder / f".part-older-{step}")
            part.rename(final)
            shutil.rmtree(older)
        else:
            part.rename(final)
        _sync(folder)
    except Exception as error:  # safetensors has its own error for a full disk
        shutil.rmtree(part, ignore_errors=True)
        raise DataError(f"{final} cannot be written ({error}); earlier ones are intact.") from error
    if keep is not None:
        for old in sorted(_all(folder))[:-keep]:
            shutil.rmtree(folder / f"checkpoint-{old}")
        for left_over in folder.glob(".part-*"):  # by a run that was killed
            shutil.rmtree(left_over)
    return final


def load(path: Path) -> dict[str, Any]:
    """The state that `save` wrote. Raises DataError if it is missing or damaged."""
    try:
        outline = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "state.safetensors")
        return _put_tensors(outline, tensors)
    except Exception as error:
        raise DataError(f"{path} is no checkpoint that can be resumed ({error}).") from error


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in folder, None if there is none."""
    steps = _all(folder)
    return folder / f"checkpoint-{max(steps)}" if steps else None


def _all(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]


def _sync(path: Path) -> None:
    """Until the disk has it, a power cut could leave a renamed but empty file."""
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
