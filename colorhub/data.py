"""Any image data set as an endless supply of batches of photos.

Photos are decoded, grey and broken ones are passed over and named, and a random crop, flipped or
not, is handed on as 8-bit RGB: conversion to Lab happens on the device. Every random choice
follows from (seed, epoch, photo), so it does not matter how many processes or workers share the
work: on data held locally, N processes with batches of B see the very photos, cropped alike, that
one process sees with batches of N x B.
"""

import glob
import mimetypes
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from colorhub.errors import DataError, PhotoError
from colorhub.photos import open_photo

Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset

_SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "data"}
_TABLES = (".parquet", ".arrow", ".csv", ".jsonl", ".json", ".zip", ".tar", ".gz", ".yaml", ".md")

SHUFFLE_BUFFER = 1000  # rows of a stream that are shuffled together


@dataclass
class Batch:
    """Photos (N, 3, R, R) uint8, and what was passed over while gathering them."""

    rgb: Tensor
    skipped: list[str] = field(default_factory=list)


def open_rows(
    dataset_name: str | None,
    *,
    data_files: tuple[str, ...] = (),
    config_name: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    streaming: bool = False,
) -> Rows:
    """One split of a data set, its pictures still encoded, in the single column "image".

    `dataset_name` is a Hub id or a local folder; `data_files` are globs, files or URLs of Parquet
    files, pictures, or archives of pictures. Raises DataError if nothing is found, the split or
    the column does not exist, or several columns hold pictures and none is named.
    """
    if is_plain_folder(dataset_name):
        # Its names mean nothing: `datasets` would take train-station.png for a training split.
        data_files = (os.path.join(glob.escape(str(dataset_name)), "**"),)
    try:
        if data_files:
            files = {split: [_absolute(name) for name in data_files]}
            rows = datasets.load_dataset(
                _builder(data_files), data_files=files, split=split, streaming=streaming
            )
        else:
            rows = datasets.load_dataset(
                dataset_name, config_name, split=split, streaming=streaming
            )
        column = _image_column(rows, image_column)
    except DataError:
        raise
    except Exception as error:  # what `datasets` and the formats below it raise has no common base
        source = dataset_name or " ".join(data_files)
        raise DataError(f"The {split} split of {source} cannot be opened: {error}") from error
    rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return rows if column == "image" else rows.rename_column(column, "image")


def guarded(rows: Rows) -> Iterator[dict[str, Any]]:
    """The rows one by one. Raises DataError when they cannot be read on."""
    try:
        yield from rows
    except Exception as error:  # anything from a network away to a broken archive
        raise DataError(
            f"The data cannot be read on ({type(error).__name__}: {error}). A training run goes "
            "on from its last checkpoint with --resume_from_checkpoint latest."
        ) from error


def is_plain_folder(name: str | None) -> bool:
    """Whether this is a local folder of photos alone: no folders for splits, no tables."""
    if name is None or not os.path.isdir(name):
        return False
    entries = {entry.lower() for entry in os.listdir(name)}
    tables = any(entry.endswith(_TABLES) for entry in entries)
    return not tables and not entries & _SPLITS


def decode_row(row: dict[str, Any], *, at_least: int | None = None) -> Image.Image:
    """A row of `open_rows` as an RGB picture. Raises PhotoError if it cannot be read."""
    encoded = row["image"]
    if encoded is None:
        raise PhotoError("a row without a picture")
    content = encoded["bytes"]
    if content is None:
        # A path may lead into an archive or to the network: datasets opens them all.
        try:
            with datasets.utils.file_utils.xopen(encoded["path"], "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:
            raise PhotoError(f"{row_name(row)} cannot be opened ({error}).") from error
    try:
        return open_photo(content, at_least=at_least).convert("RGB")
    except PhotoError as error:
        raise PhotoError(str(error).replace("the picture", row_name(row))) from error


def is_picture(row: dict[str, Any]) -> bool:
    """Whether a row's name says that it is a picture: archives hold texts and tables as well."""
    path = (row["image"] or {}).get("path")
    kind = mimetypes.guess_type(path.split("::")[0])[0] if path else None
    return kind is None or kind.startswith("image/")


def row_name(row: dict[str, Any]) -> str:
    """What to call a row's picture in a message."""
    path = (row["image"] or {}).get("path")
    return path.split("::")[0].removeprefix("zip://") if path else "a picture without a name"


def is_grey(photo: Image.Image) -> bool:
    """Whether an RGB picture has no colour: no channels of its 64 px thumbnail differ by over 6."""
    thumbnail = photo.resize((64, 64), Image.Resampling.BOX)
    return int(np.ptp(np.asarray(thumbnail), axis=2).max()) <= 6


def crop(photo: Image.Image, resolution: int, draw: random.Random) -> Image.Image:
    """A random square of `resolution` pixels from the photo, flipped half of the time.

    The photo's short side is first brought to 1 to 1.25 times the resolution.
    """
    scale = resolution * draw.uniform(1, 1.25) / min(photo.size)
    width, height = (max(resolution, round(side * scale)) for side in photo.size)
    left, top = draw.randint(0, width - resolution), draw.randint(0, height - resolution)
    box = (left, top, left + resolution, top + resolution)
    source = (
        box[0] / width * photo.width,
        box[1] / height * photo.height,
        box[2] / width * photo.width,
        box[3] / height * photo.height,
    )
    square = photo.resize((resolution, resolution), Image.Resampling.BICUBIC, box=source)
    flip = draw.random() < 0.5
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else square


class PhotoBatches(IterableDataset[Batch]):
    """One epoch of batches for one rank; `set_epoch` chooses which.

    Rows held locally are permuted anew each epoch and dealt out singly: row i of the permutation
    goes to rank i % world. Streams are shuffled in a buffer and divided by shards where their
    number allows, else likewise. Files that are no pictures by their names are passed over;
    broken and grey photos are skipped and reported, at the latest with an empty batch at the end.
    Leftovers that fill no batch are dropped.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        resolution: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.resolution = resolution
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose order and crops come next."""
        self.epoch = epoch

    def loader(self, workers: int) -> DataLoader[Batch]:
        """Batches as they are, decoded in `workers` processes beside this one (0: in this one)."""
        return DataLoader(self, batch_size=None, num_workers=workers)

    def __len__(self) -> int:
        """Batches in an epoch if no photo is skipped. Raises TypeError for a stream."""
        return len(self.rows) // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[Batch]:
        squares: list[np.ndarray] = []
        skipped: list[str] = []
        for key, row in self._own_rows():
            if not is_picture(row):
                continue
            try:
                photo = decode_row(row, at_least=self.resolution)
                if is_grey(photo):
                    raise PhotoError(f"{row_name(row)} is grey")
            except PhotoError as error:
                skipped.append(str(error))
                continue
            draw = random.Random(f"{self.seed} {self.epoch} {key}")
            squares.append(np.asarray(crop(photo, self.resolution, draw)))
            if len(squares) == self.batch_size:
                rgb = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
                yield Batch(rgb, skipped)
                squares, skipped = [], []
        if skipped:
            yield Batch(torch.empty(0, 3, self.resolution, self.resolution), skipped)

    def _own_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(a name for the photo's random draws, row)"""
        worker = get_worker_info()
        index, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if isinstance(self.rows, datasets.IterableDataset):
            stream = self.rows.shuffle(seed=self.seed, buffer_size=SHUFFLE_BUFFER)
            if self.world > 1:
                stream = split_dataset_by_node(stream, self.rank, self.world)
            stream.set_epoch(self.epoch)
            for place, row in enumerate(guarded(stream)):  # divides shards among workers by itself
                yield f"{self.rank} {index} {place}", row
            return
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))
        joined = self.batch_size * self.world
        for place in range(self.rank, len(order), self.world):
            # Whole batches go to each worker in turn, in the order the loader asks for them.
            if place // joined % workers == index:
                yield str(order[place]), self.rows[int(order[place])]


def _image_column(rows: Rows, wanted: str | None) -> str:
    features = rows.features or {}
    if not features:
        features = rows._resolve_features().features or {}
    pictures = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if wanted is None and len(pictures) == 1:
        return pictures[0]
    if wanted is not None and wanted in pictures:
        return wanted
    found = f"columns with pictures: {', '.join(pictures) or 'none'}; all: {', '.join(features)}"
    if wanted is None:
        raise DataError(f"Say which column holds the photos with --image_column ({found}).")
    raise DataError(f"Column {wanted!r} holds no pictures ({found}).")


def _builder(data_files: tuple[str, ...]) -> str:
    """The part of `datasets` that reads these files."""
    for builder, extension in (("parquet", ".parquet"), ("webdataset", ".tar")):
        if all(name.split("?")[0].endswith(extension) for name in data_files):
            return builder
    return "imagefolder"


def _absolute(name: str) -> str:
    """Local files by absolute path, so that what is cached for one folder serves no other."""
    if "://" in name:
        return name
    if not glob.glob(name, recursive=True):
        raise DataError(f"--data_files {name}: no such file.")
    return os.path.abspath(name)
