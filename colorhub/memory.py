"""What is kept in memory between requests: the most recently used, up to a number of bytes."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from colorhub.errors import OptionError

MEMORY = "COLORHUB_MEMORY_MB"
SHARE, LEAST, MOST = 8, 256, 4096  # of the machine's memory by default, and its bounds in MB

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key. Above `limit` bytes those that were not used for longest are let go.

    What somebody still uses lives on until they are done. A value larger than the limit is handed
    out and not kept. `limit` is asked for when it is first needed; see `limit_of_machine`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._coming: dict[Hashable, Future[T]] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return self._bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable, make: Callable[[], T], size_of: Callable[[T], int]) -> T:
        """The value kept under the key, else that which `make` makes.

        Who asks for a key that another thread is making waits for it, and gets its error if there
        is one; the next to ask after that makes it anew.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            coming = self._coming.get(key)
            if coming is None:
                mine = self._coming[key] = Future()
        if coming is not None:
            return coming.result()
        try:
            value = make()
            self._keep(key, value, size_of(value))
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(value)
            return value
        finally:
            with self._lock:
                del self._coming[key]

    def _keep(self, key: Hashable, value: T, size: int) -> None:
        with self._lock:
            if self._limit is None:
                self._limit = limit_of_machine()
            if size > self._limit:
                return
            self._kept[key] = value, size
            self._bytes += size
            while self._bytes > self._limit:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed

    def drop(self, key: Hashable) -> None:
        """Let go of one value, if it is kept."""
        with self._lock:
            if key in self._kept:
                self._bytes -= self._kept.pop(key)[1]

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def network_bytes(network: nn.Module) -> int:
    """What a network's parameters and buffers take, each once however often it is used."""
    return sum(each.nbytes for each in (*network.parameters(), *network.buffers()))


def limit_of_machine() -> int:
    """Bytes for variants in memory: COLORHUB_MEMORY_MB (of 10^6 bytes), else a share of what is.

    The share is an eighth of the memory that this process may use, and between 256 MB and 4 GB.
    Raises OptionError for a variable that is no number above 0.
    """
    told = os.environ.get(MEMORY, "").strip()
    if not told:
        megabytes = min(max(_available() // SHARE // 10**6, LEAST), MOST)
    elif told.isascii() and told.isdigit() and int(told) > 0:
        megabytes = int(told)
    else:
        raise OptionError(f"{MEMORY} is {told!r}: give megabytes, such as 2000.")
    return megabytes * 10**6


def _available(group: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Bytes that the machine has, or the container if it has fewer; 0 where nobody says."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        machine = 0
    try:
        return min(machine or int(group.read_text()), int(group.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return machine
