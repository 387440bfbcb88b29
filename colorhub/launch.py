"""How a training script starts: its command line, and accelerate set up for it."""

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

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

_NOT_OURS = {
    "FSDP": "ACCELERATE_USE_FSDP",
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
}


def full_precision(accelerator: Accelerator, network: nn.Module) -> Callable[..., Tensor]:
    """A prepared network's fp32 forward pass, for penalties on its gradient.

    accelerate wraps the forward of what it prepares in autocast, and an autocast around the call
    does not undo that; the class's own forward does. The penalty must be added to a loss that
    went through the prepared network, or DDP would not average its gradients.
    """
    bare = accelerator.unwrap_model(network)
    return partial(type(bare).forward, bare)


def make_accelerator(config: Options) -> Accelerator:
    """accelerate's own, with its complaints in our words. Raises OptionError."""
    for strategy, variable in _NOT_OURS.items():
        if os.environ.get(variable, "false").lower() in ("1", "true"):
            raise OptionError(
                f"{strategy} splits a network that is too large for one GPU. The largest here fits "
                "on any with its optimiser, and gradient penalties need whole parameters: use "
                "accelerate launch --multi_gpu."
            )
    tracker = None if config.report_to == "none" else config.report_to
    if tracker and importlib.util.find_spec(tracker) is None:
        raise OptionError(f"--report_to {tracker}: pip install {tracker}, or use --report_to none.")
    try:
        accelerator = Accelerator(
            # Without this, processes on a machine that has no GPU would not find each other.
            cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
            log_with=tracker,
            project_dir=str(config.output_dir),
            # Batch statistics are synchronised by the layers; broadcasting them would only cost.
            # The others wait while the main process measures and publishes.
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=timedelta(hours=12)),
            ],
        )
    except ValueError as error:  # fp16 without a GPU, an unknown tracker
        raise OptionError(f"accelerate refuses these settings: {error}") from error
    # Its successor is unknown to accelerate and to older releases of torch.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    accelerator.init_trackers("log")
    return accelerator


_GO_ON = "go on with --resume_from_checkpoint latest"
C = TypeVar("C", bound=Options)


def main(config: type[C], train: Callable[[C], None]) -> None:
    """Read the command line into a script's Config and train; errors are one sentence, status 1."""
    try:
        train(tyro.cli(config, use_underscores=True, config=(tyro.conf.OmitArgPrefixes,)))
    except ColorhubError as error:
        # One that comes out of a data worker has the worker's trace before its last line.
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
    except OSError as error:  # a full disk, a folder that may not be written to
        sys.exit(f"error: {error}. Checkpoints are whole: when that is mended, {_GO_ON}.")
    except KeyboardInterrupt:
        sys.exit(f"error: interrupted: {_GO_ON}.")
    except RuntimeError as error:
        if "Connection" not in str(error) or not torch.distributed.is_initialized():
            raise
        sys.exit(f"error: another process of this run has died: {_GO_ON}.")
