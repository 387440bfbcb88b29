"""Work that one machine does for several people: one piece at a time, like pieces as one."""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Does one group of pieces at a time; pieces that wait under the same key make up a group.

    Nobody waits for a group to fill: it is whoever has come while another group was at work, `most`
    at the most. A network colours four photos at once in three quarters of the time that it takes
    for four (benchmarks/app.py measures it).
    """

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, list[tuple[T, Future[R]]]] = {}

    def do(self, key: Hashable, piece: T, work: Callable[[Sequence[T]], Sequence[R]]) -> R:
        """What `work` makes of this piece; it is given the pieces of a group, all under `key`.

        An error of a group is raised for each of its pieces.
        """
        mine: Future[R] = Future()
        with self._lock:
            self._waiting.setdefault(key, []).append((piece, mine))
        with self._turn:
            if not mine.done():
                self._work(key, mine, work)
        return mine.result()

    def _work(
        self, key: Hashable, mine: Future[R], work: Callable[[Sequence[T]], Sequence[R]]
    ) -> None:
        with self._lock:
            waiting = self._waiting.pop(key)
            # Whoever leads a group belongs to it, however many came before.
            waiting.sort(key=lambda each: each[1] is not mine)
            group, rest = waiting[: self.most], waiting[self.most :]
            if rest:
                self._waiting[key] = rest
        try:
            results = work([piece for piece, _ in group])
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)
