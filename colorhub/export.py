"""A variant's generator as one file that runs without colorhub and without PyTorch.

The file is an ONNX graph from `lightness` (N, 1, height, width) to `ab` (N, 2, height, width), both
in [-1, 1], for any N, height and width; what else its user must know is in its metadata.
"""

import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from colorhub import cards, hub, weights
from colorhub.errors import OptionError, VariantError
from colorhub.generators import Generator
from colorhub.hub import Variant

ENDINGS = {"onnx": ".onnx"}
TOLERANCE = 1e-3  # largest difference from PyTorch's result, in [-1, 1]
TRACED = (2, 1, 64, 96)  # one photo, or sides of 1, would be taken for the only ones there are
CHECKED = ((1, 1, 70, 97), (3, 1, 131, 60))

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_OPSET = 18  # the oldest that has Resize with antialiasing


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    difference: float
    """The largest difference between what ONNX Runtime and PyTorch compute, in [-1, 1]."""
    megabytes: float


def export(
    name: str | os.PathLike[str], path: str | os.PathLike[str], *, format: str = "onnx"
) -> Exported:
    """Write a variant's generator, a bundled name, a folder or `owner/name[@revision]`, to a file.

    Of variants with several colourings it is the likeliest, that of seed 0; of those with noise
    each photo of a batch gets the noise that `Colorizer` gives to one alone. The graph is compared
    with PyTorch on sizes other than the one it was traced with, and the file is written whole or
    not at all. Weights are in fp32.

    Raises OptionError for an unknown format, a wrong ending or a missing package, VariantError if
    the variant cannot be exported or its graph gives another result, and what loading raises.
    """
    path = Path(path)
    _check_options(path, format)
    variant = hub.resolve(name)
    generator = weights.load(variant.folder)
    network = Likeliest(generator).eval()
    # PyTorch goes first: what is computed once and kept, as the palette is, must not be kept from
    # the tracing, where tensors hold no values.
    with torch.inference_mode():
        expected = [(lightness, network(lightness)) for lightness in _photos()]
    with _in_place_of(path) as part:  # early: a place that cannot be written to is soon known
        graph = _trace(network, variant.name)
        _describe(graph, variant, generator)
        part.write_bytes(graph.SerializeToString())
        difference = _difference(part, expected)
        if not difference <= TOLERANCE:  # nor may it be NaN
            raise VariantError(
                f"{variant.name} is not exported: ONNX Runtime's ab differs from PyTorch's by "
                f"{difference:.1e}, more than {TOLERANCE:.0e}. Try other versions of "
                f"{', '.join(_PACKAGES)}."
            )
    return Exported(path, difference, path.stat().st_size / 1e6)


def _check_options(path: Path, format: str) -> None:
    if format not in ENDINGS:
        raise OptionError(f"Unknown format {format!r}: choose {', '.join(ENDINGS)}.")
    if path.suffix.lower() != ENDINGS[format]:
        raise OptionError(f"{path}: end it in {ENDINGS[format]}.")
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file.")
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise OptionError(f"Export needs {', '.join(missing)}: pip install 'colorhub[onnx]'")


class Likeliest(nn.Module):
    """A generator that takes lightness alone and gives the colours of seed 0."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.noise: Tensor | None = None
        if noise_dim := getattr(generator.config, "noise_dim", 0):
            source = torch.Generator().manual_seed(0)  # as Colorizer draws it for one photo
            self.noise = torch.randn(1, noise_dim, generator=source)

    def forward(self, lightness: Tensor) -> Tensor:
        if self.noise is None:
            return self.generator(lightness)
        return self.generator(lightness, self.noise.expand(lightness.shape[0], -1))


def _photos() -> Iterator[Tensor]:
    """Lightness to compare with, in shapes that were not traced."""
    source = torch.Generator().manual_seed(0)
    for shape in CHECKED:
        yield torch.rand(shape, generator=source) * 2 - 1


def _trace(network: nn.Module, name: str) -> Any:
    """The graph, an onnx.ModelProto."""
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (torch.zeros(TRACED),),
                dynamo=True,
                opset_version=_OPSET,
                input_names=["lightness"],
                output_names=["ab"],
                dynamic_shapes=({0: "N", 2: "height", 3: "width"},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise VariantError(f"{name} cannot be exported: {error}") from error
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages that are not there and of parts of its own that are old."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(model: Any, variant: Variant, generator: Generator) -> None:
    """Say in the file what its user needs to know, and nothing of the machine it was made on."""
    graph = model.graph
    for each in (*graph.node, *graph.initializer, *graph.input, *graph.output, *model.functions):
        del each.metadata_props[:]  # among them tracebacks with this machine's folders
    del graph.value_info[:]
    for dim, name in zip(graph.output[0].type.tensor_type.shape.dim, _DIMS, strict=True):
        if name is not None:
            dim.dim_param = name  # as large as the input, instead of a formula that says so
    graph.name = "colorhub"
    config = generator.config
    model.doc_string = _USE.format(gain=config.ab_gain, resolution=config.resolution)
    del model.metadata_props[:]
    for key, value in _metadata(variant, generator).items():
        model.metadata_props.add(key=key, value=str(value))


_DIMS = ("N", None, "height", "width")
_USE = """\
Colours for a grey photo. `lightness` is its L* of CIE Lab (D65) / 50 - 1, its short side brought to
{resolution} pixels; `ab` times {gain:g} are a* and b*. Enlarge them to the photo's size and join
them with the photo's own L*. The colours are inferred, not remembered."""


def _metadata(variant: Variant, generator: Generator) -> dict[str, Any]:
    """What is known; what is not is left out."""
    facts = {
        "name": variant.name,
        "revision": variant.revision,
        "architecture": type(generator).__name__,
        "resolution": generator.config.resolution,
        "ab_gain": generator.config.ab_gain,
        "license": _license(variant),
        "weights_sha256": weights.read_config(variant.folder)["weights_sha256"],
    }
    return {key: value for key, value in facts.items() if value is not None}


def _license(variant: Variant) -> str | None:
    try:
        front = cards.front_matter(hub.card(variant) or "")
        return front.get("license_name") or front.get("license")
    except (ValueError, AttributeError, yaml.YAMLError):  # no card, or one that others have written
        return None


def _difference(path: Path, expected: list[tuple[Tensor, Tensor]]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    largest = 0.0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for lightness, ab in expected:
            (result,) = session.run(["ab"], {"lightness": lightness.numpy()})
            if result.shape != ab.shape:
                return float("inf")
            # NaN must not get lost, as it would in Python's max.
            largest = (torch.from_numpy(result) - ab).abs().max().clamp(min=largest).item()
    except Exception as error:  # ONNX Runtime's own have no public base
        raise VariantError(f"ONNX Runtime cannot run what was exported ({error}).") from error
    return largest


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of another if all goes well and is gone if not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
            part = Path(folder, path.name)
            yield part
            os.replace(part, path)
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error}).") from error
