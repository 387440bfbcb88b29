"""A variant on disk: config.json and model.safetensors, written together and read strictly.

Nothing is ever unpickled, and nothing that does not fit is loaded in part.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from colorhub.errors import OptionError, VariantError
from colorhub.files import sha256
from colorhub.generators import ARCHITECTURES, EVERY, KINDS

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def save(
    network: Any,
    folder: str | os.PathLike[str],
    *,
    mean_ab: tuple[float, float] | None = None,
    half: bool = True,
) -> None:
    """Write config.json and model.safetensors into folder, fp16 unless `half` is False.

    `mean_ab` is the training photos' mean colour in Lab units, the baseline that `evaluate`
    measures against. Each file is replaced as a whole; the checksum in the configuration tells
    if the two do not belong together. Raises VariantError if a weight is not finite or the folder
    cannot be written to.
    """
    folder = Path(folder)
    dtype = torch.float16 if half else torch.float32
    weights = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        weights[name] = (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        _check_finite(name, weights[name], "Training has diverged or half precision overflows")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
            save_file(weights, Path(part, WEIGHTS), metadata={"format": "pt"})
            Path(part, WEIGHTS).chmod(0o644)  # safetensors keeps what it writes to its owner
            config = {
                "format_version": FORMAT_VERSION,
                "library_name": "colorhub",
                "architecture": type(network).__name__,
                "network": dataclasses.asdict(network.config),
                "mean_ab": mean_ab and [round(value, 4) for value in mean_ab],
                "weights_sha256": sha256(Path(part, WEIGHTS)),
            }
            Path(part, CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            for name in (WEIGHTS, CONFIG):
                os.replace(Path(part, name), folder / name)
    except (OSError, SafetensorError) as error:
        raise VariantError(f"{folder} cannot be written to ({error}).") from error


def load(folder: str | os.PathLike[str], kinds: Mapping[str, type[Any]] = ARCHITECTURES) -> Any:
    """The network in a folder, one of `kinds` by name, weights in fp32, in evaluation mode.

    Raises VariantError if config.json is missing, unreadable or of a newer format, if the weights
    are missing, pickled, truncated, corrupted or not finite, or if names, shapes or number types
    differ from the network's own.
    """
    folder = Path(folder)
    config = read_config(folder)
    generator = _build(config, folder, kinds)
    weights = _read_weights(folder, generator.state_dict(), config)
    # Copies: what lies in the file's own memory is not aligned, and then sums differ in a last bit.
    generator.load_state_dict({name: each.clone() for name, each in weights.items()}, assign=True)
    return generator.float().eval()


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, checked for its format. Raises VariantError."""
    path = folder / CONFIG
    if not path.is_file():
        raise VariantError(f"{folder} is no colorhub variant: it has no {CONFIG}.")
    try:
        config = json.loads(path.read_text())
        version = config["format_version"]
    except (ValueError, KeyError, TypeError):
        raise VariantError(f"{path} is not a configuration that colorhub has written.") from None
    mean_ab = config.setdefault("mean_ab", None)
    if mean_ab is not None and not (isinstance(mean_ab, list) and len(mean_ab) == 2):
        raise VariantError(f"{path}: mean_ab is {mean_ab!r}, expected two numbers or null.")
    if version != FORMAT_VERSION:
        raise VariantError(
            f"{path} has format {version}; this colorhub reads {FORMAT_VERSION}. "
            "Upgrade it: pip install --upgrade colorhub"
        )
    return config


def kind_of(folder: Path) -> str | None:
    """What a folder's network makes pixels from, a key of `KINDS`; None for a classifier.

    What cannot be told passes for "photo": loading says what is wrong with it.
    """
    try:
        name = json.loads((folder / CONFIG).read_text())["architecture"]
    except (OSError, ValueError, KeyError, TypeError):
        return "photo"
    if name == "ResNet34":  # such as a fusion model's extractor
        return None
    return next((kind for kind, known in KINDS.items() if name in known), "photo")


def _build(config: dict[str, Any], folder: Path, kinds: Mapping[str, type[Any]]) -> Any:
    name = config.get("architecture")
    if not isinstance(name, str) or name not in {**EVERY, **kinds}:
        known = ", ".join(kinds)
        raise VariantError(f"{folder}: unknown architecture {name!r}; known are {known}.")
    if name not in kinds:
        raise VariantError(
            f"{folder.name} is a variant of kind {kind_of(folder)}, which is used otherwise: see "
            "its card."
        )
    cls = kinds[name]
    given, wanted = config.get("network"), dataclasses.fields(cls.Config)
    if not isinstance(given, dict):
        raise VariantError(f"{folder / CONFIG} does not say how the network is built.")
    names = {field.name for field in wanted}
    if set(given) != names:
        odd = ", ".join(sorted(set(given) ^ names))
        raise VariantError(f"{folder / CONFIG}: missing or unknown settings of {name}: {odd}.")
    for field in wanted:
        # JSON writes 128.0 as it may write 128: an int may stand for a float, nothing else.
        allowed = (int, float) if field.type is float else (field.type,)
        if type(given[field.name]) not in allowed:
            raise VariantError(
                f"{folder / CONFIG}: {field.name} is {given[field.name]!r}, "
                f"expected {getattr(field.type, '__name__', field.type)}."
            )
    try:
        # No memory for a network whose weights may not be there.
        with torch.device("meta"), _NothingDrawn():
            return cls(cls.Config(**given))
    except (OptionError, ValueError, RuntimeError) as error:
        raise VariantError(f"{folder / CONFIG}: no {name} can be built so ({error}).") from error


class _NothingDrawn(TorchFunctionMode):
    """Weights are not drawn: where they have no memory, it would load torch's compiler."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        if function in (Tensor.normal_, nn.init.normal_):
            return options.get("tensor", *arguments[:1])
        return function(*arguments, **options)


def _read_weights(
    folder: Path, wanted: dict[str, Tensor], config: dict[str, Any]
) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    check_files(str(folder), [file.name for file in folder.iterdir()])
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            missing, extra = sorted(set(wanted) - names), sorted(names - set(wanted))
            if missing or extra:
                raise VariantError(
                    f"{path} does not fit {config['architecture']}: "
                    f"missing {_some(missing)}; not expected {_some(extra)}."
                )
            weights = {name: file.get_tensor(name) for name in sorted(names)}
    except (SafetensorError, OSError) as error:
        raise VariantError(
            f"{path} is truncated or no safetensors file ({error}): fetch it again."
        ) from error
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            raise VariantError(
                f"{path}: {name} has the wrong shape {tuple(tensor.shape)}, "
                f"expected {tuple(wanted[name].shape)}."
            )
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise VariantError(f"{path}: {name} has the wrong number type {tensor.dtype}.")
        _check_finite(name, tensor, f"{path} is damaged")
    if sha256(path) != config.get("weights_sha256"):
        raise VariantError(
            f"{path} is corrupted: its SHA-256 is not the one in {CONFIG}. Fetch it again."
        )
    return weights


def check_files(where: str, names: Iterable[str]) -> None:
    """Raise VariantError unless the files of a folder or a repository can make a variant."""
    names = list(names)
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if WEIGHTS not in names and pickles:
        raise VariantError(
            f"{where} holds its weights as a pickle ({pickles[0]}), which can run any code. "
            f"colorhub reads {WEIGHTS} only: ask the author to convert it."
        )
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise VariantError(f"{where} is no colorhub variant: it has no {name}.")


def _check_finite(name: str, tensor: Tensor, why: str) -> None:
    if not torch.isfinite(tensor).all():
        raise VariantError(f"{why}: {name} is not finite.")


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest if names else "nothing"
