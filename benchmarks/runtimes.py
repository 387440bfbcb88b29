"""What makes a network's call faster, and how far it moves the colours: PyTorch, ONNX, OpenVINO.

    python benchmarks/runtimes.py [--variants natural cwgan] [--compile]

All run the same network on the same photos, by turns within a round, on the CPU. OpenVINO is
measured where it is installed. Figures are of this machine at this moment; read the ratios.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from PIL import Image
from skimage import data
from torch import Tensor, nn

from colorhub import hub, weights
from colorhub.color import rgb_to_lab, to_lightness
from colorhub.colorizer import fit, to_tensor
from colorhub.export import Likeliest, export

Runtime = Callable[[Tensor], Tensor]

BASE = "PyTorch fp32, channels last"  # what the Colorizer does
DECODERS = ("decoder", "up")  # what generators call the parts behind their encoders
PAUSE = 0.02  # seconds until a runtime's threads have stopped waiting for more: they disturb others


@dataclass(frozen=True)
class Config:
    variants: tuple[str, ...] = ("natural", "cwgan", "autoencoder", "pix2pix-lsgan-l1", "fusion")
    """Variants to time."""
    sizes: tuple[int, ...] = (256, 512)
    """Pixels of the short side, beside each variant's own."""
    rounds: int = 15
    """Turns that a figure is the median of, after two to warm up."""
    threads: int = 2
    """Threads for each runtime."""
    compile: bool = False
    """Also torch.compile: it takes minutes, and a C++ compiler."""


def runtimes(variant: str, file: Path, config: Config) -> dict[str, Callable[[], Runtime]]:
    """How each is made ready, by name."""
    made: dict[str, Callable[[], Runtime]] = {
        BASE: partial(_in_torch, variant),
        "PyTorch fp32": partial(_in_torch, variant, layout=torch.contiguous_format),
        "PyTorch bf16, channels last": partial(_in_torch, variant, bf16=True),
        "PyTorch fp32, decoder in bf16": partial(_in_torch, variant, decoder_bf16=True),
    }
    if config.compile:
        for name, bf16 in (("fp32", False), ("bf16", True)):
            way = partial(_in_torch, variant, bf16=bf16, compiled=True)
            made[f"torch.compile {name}, channels last"] = way
    made["ONNX Runtime fp32"] = partial(_in_onnxruntime, file, config.threads)
    if importlib.util.find_spec("openvino"):
        made["OpenVINO fp32"] = partial(_in_openvino, file, config.threads, "f32")
        made["OpenVINO bf16"] = partial(_in_openvino, file, config.threads, "bf16")
    return made


def _in_torch(
    variant: str,
    *,
    layout: torch.memory_format = torch.channels_last,
    bf16: bool = False,
    decoder_bf16: bool = False,
    compiled: bool = False,
) -> Runtime:
    network: Any = Likeliest(weights.load(hub.resolve(variant).folder)).eval()
    network = network.to(memory_format=layout)
    if decoder_bf16:
        parts = [each for name, each in network.generator.named_children() if name in DECODERS]
        for part in parts:
            for module in part if isinstance(part, nn.ModuleList) else (part,):
                module.forward = _in_bf16(module.forward)
    if compiled:
        # One graph for each size: made for all, torch 2.13 fails on the remainder in the padding.
        network = torch.compile(network, dynamic=False)

    def call(lightness: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, bf16):
            return network(lightness.to(memory_format=layout)).float()

    return call


def _in_bf16(forward: Runtime) -> Runtime:
    def call(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(x).float()

    return call


def _in_onnxruntime(file: Path, threads: int) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would else be busy waiting while the next runtime is timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda lightness: torch.from_numpy(
        session.run(["ab"], {"lightness": lightness.numpy()})[0]
    )


def _in_openvino(file: Path, threads: int, kind: str) -> Runtime:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": kind,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    model = core.compile_model(core.read_model(file), "CPU", settings)
    return lambda lightness: torch.from_numpy(model([lightness.numpy()])["ab"].copy())


def photos(size: int) -> list[Tensor]:
    """Lightness of two photos, a square one and a wide one."""
    pictures = (Image.fromarray(array) for array in (data.astronaut(), data.coffee()))
    return [to_lightness(rgb_to_lab(to_tensor(fit(picture, size)))) for picture in pictures]


@torch.inference_mode()
def measure(variant: str, size: int, file: Path, config: Config) -> list[str]:
    """A row of the table for each runtime; the square photo is what is timed."""
    square, wide = photos(size)
    ready: dict[str, Runtime] = {}
    cold: dict[str, float] = {}
    for name, make in runtimes(variant, file, config).items():
        start = time.perf_counter()
        ready[name] = make()
        ready[name](square)
        cold[name] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(config.rounds + 2):
        for name, call in ready.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            call(square)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: median(times[2:]) for name, times in seconds.items()}
    gain = weights.read_config(hub.resolve(variant).folder)["network"]["ab_gain"]
    rows = []
    for name, call in ready.items():
        moved = [(call(each) - ready[BASE](each)).abs() * gain for each in (square, wide)]
        largest, mean = max(each.max() for each in moved), torch.stack([m.mean() for m in moved])
        cells = [f"{1000 * medians[name]:.0f}", f"{1000 * min(seconds[name]):.0f}"]
        cells.append(f"{medians[BASE] / medians[name]:.2f}")
        cells += [f"{largest:.3f}", f"{mean.mean():.4f}", f"{cold[name]:.1f}"]
        rows.append(f"| {variant} | {size} | {name} | {' | '.join(cells)} |")
    return rows


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    heads = ["variant", "px", "runtime", "ms", "least", "times as fast", "largest d ab", "mean"]
    heads.append("start s")
    print(f"{config.threads} threads, torch {torch.__version__}; d ab in Lab units\n")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in config.variants:
            start = time.perf_counter()
            file = export(variant, Path(folder, "network.onnx")).path
            seconds[variant] = time.perf_counter() - start
            own = weights.read_config(hub.resolve(variant).folder)["network"]["resolution"]
            for size in (own, *config.sizes):
                print("\n".join(measure(variant, size, file, config)), flush=True)
    exported = ", ".join(f"{variant} {spent:.0f}" for variant, spent in seconds.items())
    print(f"\nONNX Runtime and OpenVINO need an exported file, made once, in seconds: {exported}.")


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
