"""Where a variant comes from: the command, the data, the machine. For the card.

Nothing here names a place on the machine: a card is published.
"""

import importlib.metadata
import json
import logging
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import torch
from huggingface_hub import HfApi

from colorhub.errors import naming

_PACKAGES = ("colorhub", "torch", "accelerate", "datasets")


def command_line(script: str, processes: int) -> str:
    """The command that started this run, as anyone would type it.

    Absolute paths are cut to their last part, and what only restarts a run is left out.
    """
    words, skip = [], False
    for word in sys.argv[1:]:
        if skip or word.startswith("--resume_from_checkpoint"):
            skip = word == "--resume_from_checkpoint"
            continue
        words.append(word)
    launcher = "accelerate launch"
    if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
        launcher += f" --mixed_precision {os.environ['ACCELERATE_MIXED_PRECISION']}"
    if processes > 1:
        on_cpu = not torch.cuda.is_available()
        launcher = f"torchrun --standalone --nproc_per_node {processes}" if on_cpu else launcher
        launcher += "" if on_cpu else f" --num_processes {processes}"
    return shlex.join([*launcher.split(), f"train/{script}", *public_words(words)])


def public_words(words: list[str]) -> list[str]:
    """A command's words without this machine's folders and without secrets in addresses."""
    return [_public(word) for word in words]


def without_secrets(text: str) -> str:
    """A message without the passwords and signatures of the addresses in it."""
    return re.sub(r"[a-z]+://[^\s'\"]+", lambda found: _public(found[0]), text)


def _public(word: str) -> str:
    if word.startswith("--") and "=" in word:
        option, value = word.split("=", 1)
        return f"{option}={_public(value)}"
    if word.startswith(("/", "~", "file:")):
        return Path(word).name
    if "://" in word:  # neither a password nor a signature in it is the public's
        parts = urlsplit(word)
        host = parts.netloc.rsplit("@", 1)[-1]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    return word


def dataset_facts(
    name: str | None, split: str, rows: Any, *, data_files: Sequence[str] = ()
) -> dict[str, Any]:
    """Name, split, size, and, where the data set tells them, revision and licence."""
    source = " ".join(public_words([name] if name else list(data_files)))
    facts: dict[str, Any] = {"name": source, "split": split}
    facts["on_hub"] = bool(name) and not os.path.exists(name or "")
    if hasattr(rows, "num_rows"):
        facts["photos"] = rows.num_rows
    facts["license"] = getattr(rows.info, "license", None) or None
    if facts["on_hub"]:
        try:
            info = HfApi().dataset_info(source, timeout=5)
            facts["revision"] = info.sha
            facts["license"] = getattr(info.card_data, "license", None) or facts["license"]
        except Exception as error:  # the card leaves out what the Hub does not tell
            logging.getLogger(__name__).warning("Nothing is known of %s: %s", source, error)
    return facts


def hardware(device: torch.device) -> str:
    """The machine in a few words: the GPU's name, or the number of CPU cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU core{'s' if cores != 1 else ''} ({platform.machine()})"


def versions() -> dict[str, str]:
    """Versions of what trained the variant."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    with naming(path):
        part.write_text(text, encoding="utf-8")
        part.replace(path)
