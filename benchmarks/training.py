"""Speed, memory and shares of the training scripts' own steps, side by side in one run.

    python benchmarks/training.py [--scripts cwgan] [--rounds 3] [--dataset_name data/photos]

Every measurement is a script's own loop on real photos, in processes of its own. One table a script
shows photos a second while one thing at a time is changed, in turn and round after round; another
what a step is made of. Figures are of this machine at this moment; read the ratios. Peak memory is
the training processes', without their loaders'.
"""

import contextlib
import importlib
import inspect
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torch.utils.data.dataloader import _BaseDataLoaderIter

from colorhub import launch, training
from colorhub.exhibit import Exhibit
from colorhub.reports import Reports

TRAIN = Path(__file__).parent.parent / "train"


@dataclass(frozen=True)
class Case:
    """A script and the settings to measure it with."""

    script: str
    batch: int  # photos a step, of all processes together
    steps: int  # measured, after one to warm up
    options: tuple[str, ...] = ()
    precision: str = "bf16"
    channels_last: bool = True
    compiled: bool = False
    processes: int = 1
    threads: int = 2  # of each process
    workers: int = 1  # of each process
    shares: bool = False


BASES = {  # a step of cwgan takes as long as eight of autoencoder's with as many photos
    "cwgan": Case("cwgan", batch=4, steps=1),
    "pix2pix": Case("pix2pix", batch=16, steps=2),
    "autoencoder": Case("autoencoder", batch=16, steps=3),
}
ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "batch 4": {"batch": 4},
    "batch 16": {"batch": 16},
    "fp32": {"precision": "no"},
    "without channels_last": {"channels_last": False},
    "torch.compile": {"compiled": True},
    "2 processes, 1 thread each": {"processes": 2, "threads": 1},
    "no loader worker": {"workers": 0},
    "2 loader workers": {"workers": 2},
}
FURNITURE = DATA, LAB, REPORT, REST = "data", "sRGB to Lab", "report, norms, log", "rest"
BETWEEN = CHECKPOINT, WEIGHTS, SAMPLES = "checkpoint", "weights", "samples"  # not in every step
AROUND = (
    (DATA, _BaseDataLoaderIter, "__next__"),
    (LAB, training.Run, "_to_lab"),
    (REPORT, training.Run, "report"),
    (REPORT, training.Run, "_read_reports"),
    (REPORT, training.Run, "_log_row"),
    (REPORT, Reports, "end_step"),
    (CHECKPOINT, training.Run, "_checkpoint"),
    (WEIGHTS, Exhibit, "save"),
    (SAMPLES, Exhibit, "sample"),
)


@dataclass(frozen=True)
class Config:
    scripts: tuple[str, ...] = tuple(BASES)
    """Scripts to measure."""
    rows: tuple[str, ...] = tuple(ROWS)
    """Rows to measure."""
    rounds: int = 2
    """Measurements of every row; a figure is the median of all their steps."""
    steps: int | None = None
    """Measured steps of each, after one to warm up; by default 1 to 3."""
    batch_size: int | None = None
    """Photos a step; by default 4 for cwgan, 16 for others and where shares are measured."""
    resolution: int | None = None
    """Pixels, for a quick try."""
    width: int | None = None
    """Channels, for a quick try."""
    dataset_name: str | None = None
    """Photos to train on; by default pieces of the photographs bundled with scikit-image."""


# -- in the processes that train -----------------------------------------------------------------


class EnoughError(Exception):
    """The benchmark has seen all the steps it wants."""


class Stopwatch:
    """Seconds by name. What is timed within something else is not counted there as well."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._names = [REST]
        self._since = time.perf_counter()

    def note(self) -> None:
        """Credit the time since the last call."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        before, self._since = self._since, time.perf_counter()
        self.seconds[self._names[-1]] += self._since - before

    def enter(self, name: str) -> None:
        """From here on it is `name`; what is not in every step is not taken to pieces."""
        self.note()
        self._names.append(self._names[-1] if self._names[-1] in BETWEEN else name)

    def leave(self, *_: Any) -> None:
        """It is what it was before."""
        self.note()
        self._names.pop()

    def wrap(self, name: str, owner: Any, attribute: str) -> None:
        """Time a function where it is kept."""
        function = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, attribute, timed)

    def wrap_script(self, script: Any) -> None:
        """Time the penalties that the script imports and what colorhub does around its update."""
        for name, part in list(vars(script).items()):
            if inspect.isfunction(part) and part.__module__ == "colorhub.objectives":
                self.wrap("penalties", script, name)
        for name, owner, attribute in AROUND:
            self.wrap(name, owner, attribute)

    def wrap_part(self, name: str, part: Any) -> None:
        """Time a network's forward pass, or an optimiser and the backward pass before it."""
        if isinstance(part, nn.Module):
            part.register_forward_pre_hook(lambda *_: self.enter(f"{name}, forward"))
            part.register_forward_hook(self.leave)
        elif isinstance(part, torch.optim.Optimizer):
            step, whose = part.step, name.removesuffix("optimizer").rstrip("_") or "generator"

            def credited(*args: Any, **kwargs: Any) -> Any:
                self.seconds[f"{whose}'s loss, backward"] += self.seconds.pop("backward", 0.0)
                return step(*args, **kwargs)

            part.step = credited  # type: ignore[method-assign]
            self.wrap("optimisers", part, "step")
            self.wrap("optimisers", part, "zero_grad")


def measure(case: Case) -> dict[str, Any]:
    """Train in this process (it may be one of torchrun's) until enough steps were seen."""
    sys.path.append(str(TRAIN))
    script: Any = importlib.import_module(case.script)
    if not case.channels_last:
        to_lab: Any = training.Colouring.batch
        training.channels_last = lambda network: network
        training.Colouring.batch = lambda *args: [each.contiguous() for each in to_lab(*args)]  # type: ignore
    watch = Stopwatch() if case.shares else None
    if watch:
        watch.wrap_script(script)
    clock: list[float] = []  # when each step began
    shares: dict[str, float] = {}

    class Measured(training.Run):
        def prepare(self, **parts: Any) -> tuple[Any, ...]:
            ready = super().prepare(**parts)
            if watch:
                watch.wrap("backward", self.accelerator, "backward")
                for name, part in zip(parts, ready, strict=True):
                    watch.wrap_part(name, part)
            return ready

        def batches(self) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
            for batch in super().batches():
                clock.append(time.perf_counter())
                enough = len(clock) == case.steps + 2
                if watch:
                    watch.note()
                    if enough:
                        shares.update(watch.seconds)
                    elif len(clock) == 2:
                        watch.seconds.clear()
                elif enough:
                    raise EnoughError
                yield batch

    script.Run = Measured
    sys.argv = [str(TRAIN / f"{case.script}.py"), *case.options]
    sys.argv += ["--train_batch_size", str(case.batch // case.processes)]
    sys.argv += ["--dataloader_num_workers", str(case.workers)]
    if watch:  # the script goes to its end, with a checkpoint and samples
        sys.argv += ["--max_train_steps", str(case.steps + 2)]
    with contextlib.suppress(EnoughError):
        launch.main(script.Config, script.train)
    seconds = [end - start for start, end in pairwise(clock)]
    return {
        "first": seconds[0],
        "steps": seconds[1:],
        # It begins at the parent's peak, which is lower: that one does not train.
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "shares": {name: each / case.steps for name, each in shares.items() if name not in BETWEEN},
        "between": {name: watch.seconds[name] for name in BETWEEN} if watch else {},
    }


# -- in the process that asks --------------------------------------------------------------------


def make_photos(folder: Path) -> str:
    """Four hundred JPEGs of 256 x 256, as different as four photographs allow."""
    folder.mkdir()
    for name in ("astronaut", "coffee", "retina", "hubble_deep_field"):
        photo = Image.fromarray(getattr(data, name)()[..., :3])
        for i in range(100):
            left, top = 7 * i % (photo.width - 256), 5 * i % (photo.height - 256)
            photo.crop((left, top, left + 256, top + 256)).save(folder / f"{name}{i}.jpg")
    return str(folder)


def launched(case: Case, folder: Path) -> dict[str, Any]:
    """What processes of its own measure: the slowest one's figures, and the sum of their memory.

    Raises RuntimeError with the line that says why it failed.
    """
    environment = {
        "ACCELERATE_MIXED_PRECISION": case.precision,
        "ACCELERATE_DYNAMO_BACKEND": "inductor" if case.compiled else "no",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),  # what is compiled once stays so
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "OMP_NUM_THREADS": str(case.threads),
    }
    command = [sys.executable]
    if case.processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={case.processes}"]
    with tempfile.TemporaryDirectory(dir=folder) as output:
        case = replace(case, options=(*case.options, "--output_dir", output))
        done = subprocess.run(
            [*command, __file__, "--measure", json.dumps(asdict(case))],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(found) != case.processes:
        print(done.stderr, file=sys.stderr)
        told = [line for line in done.stderr.splitlines() if "rror: " in line]
        raise RuntimeError(told[0] if told else f"status {done.returncode}")
    slowest = max(found, key=lambda each: median(each["steps"] or [0]))
    return slowest | {"peak MB": sum(each["peak MB"] for each in found)}


def speeds(cases: dict[str, Case], rounds: int, folder: Path) -> None:
    """Print a script's table of speed and memory; `cases` begin with the base."""
    base = next(iter(cases.values()))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name in (each for each in cases if each not in failed):
            print(f"{base.script}, round {number + 1}: {name}", file=sys.stderr, flush=True)
            try:
                found[name].append(launched(cases[name], folder))
            except RuntimeError as error:
                failed[name] = str(error)
    print(f"\n| {base.script}, base: batch {base.batch} | photos/s (lowest to highest) ", end="")
    print("| to base | first step, s | peak MB |\n|---|---|---|---|---|")
    usual = math.nan  # should the base fail
    for name, case in cases.items():
        if name in failed:
            print(f"| {name} | failed: {failed[name]} | | | |")
            continue
        rates = [case.batch / step for one in found[name] for step in one["steps"]]
        usual = median(rates) if name == "base" else usual
        first, peak = (max(one[key] for one in found[name]) for key in ("first", "peak MB"))
        print(f"| {name} | {median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f}) ", end="")
        print(f"| {median(rates) / usual:.2f} | {first:.1f} | {peak:.0f} |", flush=True)


def composition(case: Case, folder: Path) -> None:
    """Print what a script's step is made of."""
    print(f"{case.script}: shares of a step", file=sys.stderr, flush=True)
    try:
        found = launched(case, folder)
    except RuntimeError as error:
        print(f"\nThe shares of a step of {case.script}: failed: {error}")
        return
    whole = sum(found["shares"].values())
    furniture = sum(found["shares"].get(name, 0) for name in FURNITURE)
    print(f"\n| {case.script}, batch {case.batch}, a step | {whole:.3f} s | share |\n|---|---|---|")
    for name, seconds in sorted(found["shares"].items(), key=lambda share: -share[1]):
        print(f"| {name} | {seconds:.4f} s | {seconds / whole:.1%} |")
    print(f"| *data and furniture* ({'; '.join(FURNITURE)}) | {furniture:.4f} s ", end="")
    print(f"| {furniture / whole:.1%} |")
    for name, seconds in found["between"].items():
        print(f"| *not in every step*: {name} | {seconds:.3f} s | |", flush=True)


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["--dataset_name", config.dataset_name or make_photos(folder / "photos")]
        for option in ("resolution", "width"):
            if (value := getattr(config, option)) is not None:
                options += [f"--{option}", str(value)]
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
        print("base:", {k: v for k, v in asdict(Case("", 0, 0)).items() if v})
        for script in config.scripts:
            own = BASES[script]
            steps, batch = config.steps or own.steps, config.batch_size or own.batch
            base = replace(own, steps=steps, batch=batch, options=tuple(options))
            cases = {"base": base} | {name: replace(base, **ROWS[name]) for name in config.rows}
            cases = {n: case for n, case in cases.items() if n == "base" or case != base}
            speeds(cases, config.rounds, folder)
            steps, batch = steps * config.rounds, config.batch_size or 16
            composition(replace(base, steps=steps, batch=batch, shares=True), folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Case(**json.loads(sys.argv[2])))), flush=True)
    else:
        main(tyro.cli(Config, use_underscores=True))
