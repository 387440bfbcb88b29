"""An epoch of photos, dealt out in batches to the workers of every process.

Every photo of a data set is used once an epoch but for the last few that fill no step: what a
worker or a process has left over when its share ends is pooled and dealt out again. Where an epoch
stands is a small dict; an epoch begun from it goes on with the very photo that comes next, having
decoded none of those before it.

Every random choice follows from (seed, epoch, photo): on data held locally, N processes with
batches of B see the very photos, cropped alike, that one process sees with batches of N x B.
"""

import logging
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, Protocol, TypeAlias

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from colorhub import ranks
from colorhub.data import (
    NAMELESS,
    Row,
    Rows,
    crop,
    decode_row,
    guarded,
    is_grey,
    is_picture,
    row_name,
    unreadable,
)
from colorhub.errors import DataError, PhotoError
from colorhub.runlog import Skipped

BLOCK, BLOCK_BYTES = 1000, 2**28  # rows of a stream that are shuffled together, at the most
RECONNECTS = 6  # tries to open a broken stream again before it is given up: about two minutes
ENOUGH = 1000  # photos of a stream after which the share of bad ones is believed


class RowView(Protocol):
    """A view that needs more of the row than its photo, such as a caption.

    The rows must hold that column; what it makes of it travels in the bytes of a channel.
    """

    channels: int

    def of_row(
        self, row: Row, photo: Image.Image, resolution: int, draw: random.Random
    ) -> np.ndarray:
        """(R, R, channels) bytes."""


View: TypeAlias = Callable[[Image.Image, int, random.Random], "Image.Image | np.ndarray"] | RowView
"""(photo, resolution, the photo's random draws) to what is trained on: (R, R, 3) RGB, or (R, R, 4)
RGB and the grey that the network sees of it, if the view's `channels` is 4. If its `keeps_grey` is
True, grey photos are trained on as well."""

Place: TypeAlias = list[int]
"""Where a worker stands among its rows: [rows] of a data set held locally; of a stream [block,
shard and row at which the block begins, rows taken from the block]."""


@dataclass
class Batch:
    """Photos (N, C, R, R) uint8 of one worker; `place` is None for what it has left in the end."""

    rgb: Tensor
    rows: int  # photos read for it, those skipped included
    skipped: list[str]
    share: int
    place: Place | None


class PhotoBatches(IterableDataset[Batch]):
    """One epoch of one process's batches, made by its workers.

    Rows held locally are permuted anew each epoch and dealt out singly: row i of the permutation
    goes to rank i % world. A stream's shards are dealt out, in an order of the epoch's own, to
    ranks and their workers; where there are fewer shards than that, those who share one take its
    rows in turn. Streams are shuffled in blocks of `BLOCK` rows. Files that are no pictures by
    their names are passed over; broken and grey photos are skipped and reported.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        resolution: int,
        batch_size: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        view: View = crop,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.view = view
        self._view: Callable[..., Any] = (
            partial(_photo_alone, view) if callable(view) else view.of_row
        )
        self.resolution = resolution
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.rank = rank
        self.world = world
        self.shares = max(workers, 1)
        self.streams = isinstance(rows, datasets.IterableDataset)
        if self.streams and rows.num_shards < world * self.shares:
            self.rows = rows.reshard()  # Parquet by its row groups; others stay as they are
        self.set_epoch(0)

    def set_epoch(
        self, epoch: int, places: dict[int, Place] | None = None, *, first: int = 0
    ) -> None:
        """Choose the epoch, from 0; its shares go on from `places`, share `first` before others."""
        self.epoch = epoch
        self.places = places or {}
        self.first = first

    def loader(self) -> DataLoader[Batch]:
        """Batches as they are, decoded in worker processes (without workers: in this one)."""
        context = _clean_processes() if self.workers else None
        return DataLoader(
            self,
            batch_size=None,
            num_workers=self.workers,
            multiprocessing_context=context,
            worker_init_fn=_end_with_training,
        )

    def __len__(self) -> int:
        """Batches in an epoch if no photo is skipped. Raises TypeError for a stream."""
        return len(self.rows) // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        share = ((worker.id if worker else 0) + self.first) % self.shares
        squares: list[np.ndarray] = []
        skipped: list[str] = []
        rows = 0
        keeps_grey: bool = getattr(self.view, "keeps_grey", False)
        for key, row, place in self._share(share):
            if not is_picture(row):
                continue
            rows += 1
            try:
                # Twice the crop's side: a crop may be of less than the whole short side.
                photo = decode_row(row, at_least=2 * self.resolution)
                if not keeps_grey and is_grey(photo):
                    raise PhotoError(f"{row_name(row)} is grey")
                draw = random.Random(f"{self.seed} {self.epoch} {key}")
                squares.append(np.asarray(self._view(row, photo, self.resolution, draw)))
            except PhotoError as error:
                nameless = f"{NAMELESS} (row {key})"
                skipped.append(str(error).replace(NAMELESS, nameless))
                continue
            if len(squares) == self.batch_size:
                yield Batch(self._stack(squares), rows, skipped, share, place)
                squares, skipped, rows = [], [], 0
        yield Batch(self._stack(squares), rows, skipped, share, None)

    def _stack(self, squares: list[np.ndarray]) -> Tensor:
        if not squares:
            channels: int = getattr(self.view, "channels", 3)
            return torch.empty(0, channels, self.resolution, self.resolution, dtype=torch.uint8)
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)

    def _share(self, share: int) -> Iterator[tuple[str, Row, Place]]:
        """(a name for the photo's random draws, row, place after it)"""
        return self._stream(share) if self.streams else self._local(share)

    def _local(self, share: int) -> Iterator[tuple[str, Row, Place]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
        own = np.arange(self.rank, len(order), self.world)
        # Whole batches go to each worker in turn, in the order the loader asks for them.
        own = order[own[own // (self.batch_size * self.world) % self.shares == share]]
        (start,) = self.places.get(share, [0])
        rows = guarded(self.rows[int(i)] for i in own[start:])
        for place, (i, row) in enumerate(zip(own[start:], rows, strict=True), start + 1):
            yield str(i), row, [place]

    def _stream(self, share: int) -> Iterator[tuple[str, Row, Place]]:
        shards = self.rows.num_shards
        order = np.random.default_rng((self.seed, self.epoch)).permutation(shards)
        readers, me = self.world * self.shares, share * self.world + self.rank
        together = range(me % shards, readers, shards)  # those who read the same shards
        own = order[me::readers] if shards >= readers else order[[me % shards]]
        block, shard, row, taken = self.places.get(share, [0, 0, 0, 0])
        source = self._read(own, shard, row, len(together), together.index(me))
        while rows := _block(source):
            random.Random(f"{self.seed} {self.epoch} {me} {block}").shuffle(mixed := rows.copy())
            for place, (n, at, content) in enumerate(mixed[taken:], taken + 1):
                yield f"{own[n]} {at}", content, [block, shard, row, place]
            (shard, row, _), block, taken = rows[-1], block + 1, 0
            row += 1

    def _read(
        self, shards: Any, first: int, row: int, readers: int, turn: int
    ) -> Iterator[tuple[int, int, Row]]:
        """(shard's number, row's number in it, row) for this of the readers, from a place on."""
        for n in range(first, len(shards)):
            for at, content in self._connected(int(shards[n]), row if n == first else 0):
                if at % readers == turn:
                    yield n, at, content

    def _connected(self, shard: int, at: int) -> Iterator[tuple[int, Row]]:
        """A shard's rows from number `at` on; a connection that breaks is made again there."""
        broken = 0
        while True:
            try:
                source = self.rows.shard(self.rows.num_shards, shard, contiguous=False).skip(at)
                for found in source.iter(1):  # unlike iter(), it leaves workers to us
                    yield at, {name: values[0] for name, values in found.items()}
                    at, broken = at + 1, 0
                return
            except Exception as error:  # a network's, an archive's: they have no common base
                if broken == RECONNECTS:
                    raise unreadable(error) from error
                broken += 1
                logging.getLogger(__name__).warning(
                    "The stream broke at row %d of shard %d (%s); reconnecting there.",
                    at, shard, type(error).__name__,
                )  # fmt: skip
                time.sleep(2 ** (broken - 1))


def _photo_alone(
    view: Callable[..., Any], _: Row, photo: Image.Image, resolution: int, draw: random.Random
) -> Any:
    return view(photo, resolution, draw)


def _block(source: Iterator[tuple[int, int, Row]]) -> list[tuple[int, int, Row]]:
    rows, size = [], 0
    for row in islice(source, BLOCK):
        rows.append(row)
        size += len((row[2]["image"] or {}).get("bytes") or b"")
        if size > BLOCK_BYTES:
            break
    return rows


def _clean_processes() -> Any:
    """Where workers are born: a process without threads, whose imports they share.

    Born of the training process itself, by fork, one in a hundred would hang for ever, because
    a thread (of gloo, of CUDA) held a lock at that moment.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "colorhub.batches"])
    return context


def _end_with_training(worker: int) -> None:
    """Let a worker's process end when the training process does, were it by kill -9.

    torch has each watch its parent; but that is where workers are born, and ends after the last.
    """
    training = multiprocessing.parent_process()
    assert training is not None

    def end() -> None:
        training.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


class Epoch:
    """One epoch's steps for this process: lists of `accumulate` batches (B, 3, R, R) uint8.

    Processes agree on every batch before it is theirs, so all take the same number of steps. When
    one has no whole batch left, those of the others are dealt out to all. `place` tells where the
    epoch stands when the step last given has been taken, and what another Epoch goes on from; if it
    was made by other processes or workers, the `taken` steps before it are read again instead.
    """

    def __init__(
        self,
        photos: PhotoBatches,
        epoch: int,
        *,
        accumulate: int = 1,
        place: dict[str, Any] | None = None,
        taken: int = 0,
        max_bad_fraction: float = 1.0,
        skipped: Skipped | None = None,
    ) -> None:
        self.photos = photos
        self.accumulate = accumulate
        self.max_bad_fraction = max_bad_fraction
        self.listed = skipped
        dealt = [photos.shares, photos.batch_size]
        known = place is not None and place["dealt"] == dealt
        self.replays = 0 if known else taken
        self.place: dict[str, Any] = (
            place
            if place and known
            else {"dealt": dealt, "shares": {}, "next": 0, "pooled": 0, "rows": [0, 0]}
        )
        self.left_over = 0  # photos that filled no step, known in the end
        self._rows, self._skipped = self.place["rows"]  # of this process
        self._left: dict[int, Tensor] = {}
        photos.set_epoch(epoch, self.place["shares"], first=self.place["next"])

    def __iter__(self) -> Iterator[list[Tensor]]:
        batches = self._batches()
        for _ in range(self.replays):
            list(islice(batches, self.accumulate))
        while len(step := list(islice(batches, self.accumulate))) == self.accumulate:
            yield step
        self.left_over += sum(len(batch) for batch in step) * self.photos.world

    def totals(self) -> tuple[int, int]:
        """(photos read, photos skipped) so far, of all processes; to be called by all."""
        rows, skipped = ranks.total(self._rows, self._skipped)
        return rows, skipped

    def _batches(self) -> Iterator[Tensor]:
        world, size = self.photos.world, self.photos.batch_size
        own = self._own()
        batch = next(own, None)
        while self._all_have(batch):
            assert batch is not None and batch.place is not None
            self._advance(batch)
            yield batch.rgb
            batch = next(own, None)
        first = () if batch is None else (batch.rgb,)
        pieces = chain(first, (each.rgb for each in own), self._leftovers())
        nothing = self.photos._stack([])
        pool, trained = nothing, self.place["pooled"]
        while gathered := ranks.gather_pieces(next(pieces, nothing), size):
            pool = torch.cat([pool, *gathered])
            while len(pool) >= size * world:
                mine, pool = pool[self.photos.rank : size * world : world], pool[size * world :]
                if trained:
                    trained -= 1
                    continue
                self.place = self.place | {"pooled": self.place["pooled"] + 1}
                yield mine
        self.left_over = len(pool)
        self._check_bad(*self.totals(), final=True)

    def _own(self) -> Iterator[Batch]:
        """This process's whole batches; what its workers have left over is put aside."""
        try:
            for batch in self.photos.loader():
                self._rows += batch.rows
                self._skipped += len(batch.skipped)
                if self.listed:
                    self.listed.add(batch.skipped)
                if batch.place is None:
                    self._left[batch.share] = batch.rgb
                else:
                    yield batch
        except DataError as error:  # one out of a worker's process has its trace before it
            raise DataError(str(error).strip().splitlines()[-1]) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(f"A worker that reads photos was killed ({error}).") from error

    def _leftovers(self) -> Iterator[Tensor]:
        """Worker by worker, so that it does not matter which ended first."""
        left = [rgb for _, rgb in sorted(self._left.items())]
        yield from torch.cat(left).split(self.photos.batch_size)

    def _advance(self, batch: Batch) -> None:
        rows, skipped = self.place["rows"]
        self.place = self.place | {
            "shares": self.place["shares"] | {batch.share: batch.place},
            "next": (batch.share + 1) % self.photos.shares,
            "rows": [rows + batch.rows, skipped + len(batch.skipped)],
        }

    def _all_have(self, batch: Batch | None) -> bool:
        have, rows, skipped = ranks.total(int(batch is not None), self._rows, self._skipped)
        self._check_bad(rows, skipped)
        return have == self.photos.world

    def _check_bad(self, rows: int, skipped: int, *, final: bool = False) -> None:
        """Stop as soon as it is certain (a stream: likely) that too many photos are bad."""
        size = None if self.photos.streams else len(self.photos.rows)
        of = rows if size is None or final else size
        if skipped > self.max_bad_fraction * of and (final or size or rows >= ENOUGH):
            raise DataError(
                f"{skipped} of the first {rows} photos were broken or grey, more than "
                f"--max_bad_fraction {self.max_bad_fraction:g} of {of} allows. Remove them, or "
                "allow more. " + (self.listed.summary() if self.listed else "")
            )
