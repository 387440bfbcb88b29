"""How a training script starts: its command line, and accelerate set up for it."""

import ctypes
import importlib.util
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import tyro
from torch import Tensor, nn

try:
    import datasets  # noqa: F401
    import tqdm  # noqa: F401
    from accelerate import Accelerator
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        InitProcessGroupKwargs,
    )
except ImportError as error:
    sys.exit(f"error: training needs {error.name}: pip install 'colorhub[train]'")


from colorhub.errors import ColorhubError, OptionError
from colorhub.options import Options
from colorhub.ranks import PATIENCE

_NOT_OURS = {
    "FSDP": "ACCELERATE_USE_FSDP",
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
}


def full_precision(network: nn.Module) -> Callable[..., Tensor]:
    """The fp32 forward pass of a network that was prepared, for penalties on its gradient.

    `network` is the bare one. accelerate wraps its forward in autocast, and an autocast around the
    call does not undo that; the class's own forward does. The penalty must be added to a loss that
    went through the prepared network, or DDP would not average its gradients.
    """
    return partial(type(network).forward, network)


def make_accelerator(config: Options) -> Accelerator:
    """accelerate's own, with its complaints in our words. Raises OptionError."""
    for strategy, variable in _NOT_OURS.items():
        if os.environ.get(variable, "false").lower() in ("1", "true"):
            raise OptionError(
                f"{strategy} splits a network that is too large for one GPU. The largest here fits "
                "on any with its optimiser, and gradient penalties need whole parameters: use "
                "accelerate launch --multi_gpu."
            )
    meeting = {}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        torch.distributed.register_rendezvous_handler("colorhub", _meet)
        meeting["init_method"] = "colorhub://"
    tracker = None if config.report_to == "none" else config.report_to
    if tracker and (not tracker.isidentifier() or importlib.util.find_spec(tracker) is None):
        raise OptionError(f"--report_to {tracker}: pip install {tracker}, or use --report_to none.")
    try:
        accelerator = Accelerator(
            # Without this, processes on a machine that has no GPU would not find each other.
            cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
            log_with=tracker,
            project_dir=str(config.output_dir),
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            kwargs_handlers=[
                # Batch statistics are synchronised by the layers; broadcasting would only cost.
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=PATIENCE, **meeting),
            ],
        )
    except ValueError as error:  # fp16 without a GPU, an unknown tracker
        raise OptionError(f"accelerate refuses these settings: {error}") from error
    if accelerator.gradient_accumulation_steps != config.gradient_accumulation_steps:
        raise OptionError(
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS differs: use --gradient_accumulation_steps."
        )
    # Its successor is unknown to accelerate and to older releases of torch.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    accelerator.init_trackers("log")
    return accelerator


def _meet(url: str, timeout: timedelta, **_: Any) -> Iterator[tuple[Any, int, int]]:
    """(store, rank, world size): where the processes of this start find each other's addresses.

    torchrun keeps one store for all starts, in which those of dead processes would be found (see
    github.com/pytorch/pytorch/issues/135712). So the first process makes up a prefix for this
    start, and each other one takes it only with an answer to a question of its own.
    """
    store, rank, world = next(torch.distributed.rendezvous("env://", timeout=timeout))
    word = uuid.uuid4().hex
    for other in range(1, world) if rank == 0 else ():
        heard = f"heard {other}"
        while not (store.check([heard]) and store.get(heard) == word.encode()):
            store.set(f"answer {other}", store.get(f"question {other}").decode() + word)
            time.sleep(0.01)
    if rank > 0:
        store.set(f"question {rank}", word)
        while not (answer := store.get(f"answer {rank}").decode()).startswith(word):
            time.sleep(0.01)
        word = answer.removeprefix(word)
        store.set(f"heard {rank}", word)
    yield torch.distributed.PrefixStore(word, store), rank, world


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step, if it is glibc.

    glibc hands large blocks back to the system at once and gets them anew page by page, each to be
    filled with zeros first: a fifth of a step of pix2pix on a CPU. The process stays as large as
    its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own for a large tensor
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: as large as it gets


def _said_by_thread(trouble: threading.ExceptHookArgs) -> None:
    print(f"warning: {trouble.exc_type.__name__}: {trouble.exc_value}", file=sys.stderr)


def main(
    config: Any,
    train: Callable[[Any], None],
    go_on: str = "go on with --resume_from_checkpoint latest",
) -> None:
    """Read the command line into a script's Config, or one of a union of them, and train; errors
    are one sentence, status 1. `go_on` says how a run that was cut off is taken up again."""
    threading.excepthook = _said_by_thread  # TensorBoard's, when the disk is full
    keep_freed_memory()
    try:
        train(tyro.cli(config, use_underscores=True, config=(tyro.conf.OmitArgPrefixes,)))
    except ColorhubError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except torch.OutOfMemoryError:
        sys.exit(
            "error: the GPU's memory is full: use a smaller --train_batch_size with more "
            "--gradient_accumulation_steps, or a smaller --resolution."
        )
    except OSError as error:  # a full disk, a folder that may not be written to
        sys.exit(f"error: {error}. Checkpoints are whole: when that is mended, {go_on}.")
    except KeyboardInterrupt:
        sys.exit(f"error: interrupted: {go_on}.")
    except RuntimeError as error:
        lost = ("Connection", "Broken pipe", "Timed out", "Connect timeout")
        if not any(word in str(error) for word in lost):
            raise
        sys.exit(f"error: another process of this run has died: {go_on}.")
