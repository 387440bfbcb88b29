"""A GPU that is there only while a function runs: ZeroGPU, on Hugging Face Spaces."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

SECONDS = 30  # that a call asks for: the less it asks, the sooner it is its turn


def on_gpu(function: F) -> F:
    """Let a function run where ZeroGPU has its GPU; elsewhere it is left as it is.

    There it runs in another process: arguments and result are pickled, so they must be small and on
    the CPU, and what the function remembers in memory is not seen outside. `function` must be one
    of a module. The package `spaces` is on every Space and is needed nowhere else.
    """
    try:
        import spaces
    except ImportError:
        return function
    decorated: F = spaces.GPU(duration=SECONDS)(function)
    return decorated
