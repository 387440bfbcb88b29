"""Any image data set as rows, and a row as the photo that training sees.

Photos are decoded, grey and broken ones are told from others, and a random crop, flipped or not, is
handed on as 8-bit RGB: conversion to Lab happens on the device.
"""

import glob
import gzip
import mimetypes
import os
import random
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from colorhub.errors import DataError, PhotoError
from colorhub.photos import open_photo
from colorhub.provenance import public_words, without_secrets

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset

_SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "data"}
_TABLES = (".parquet", ".arrow", ".csv", ".jsonl", ".json", ".zip", ".tar", ".gz", ".yaml", ".md")


SMALLEST = 7  # pixels of a side below which SSIM has no window
NAMELESS = "a picture without a name"
_WAITS = (1.0, 4.0, 16.0)  # seconds between tries to read a photo from the network


def open_rows(
    dataset_name: str | None,
    *,
    data_files: tuple[str, ...] = (),
    config_name: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    columns: tuple[str, ...] = (),
    streaming: bool = False,
) -> Rows:
    """One split of a data set, its pictures still encoded, in the single column "image".

    `dataset_name` is a Hub id or a local folder; `data_files` are globs, files or URLs of Parquet
    files, pictures, or archives of pictures. `columns` are kept beside the pictures. Raises
    DataError if nothing is found, the split or a column does not exist, or several columns hold
    pictures and none is named.
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
        _check_columns(rows, columns)
    except DataError:
        raise
    except Exception as error:  # what `datasets` and the formats below it raise has no common base
        source = " ".join(public_words([dataset_name] if dataset_name else list(data_files)))
        why = without_secrets(str(error))
        raise DataError(f"The {split} split of {source} cannot be opened: {why}") from error
    rows = rows.select_columns([column, *columns]).cast_column(column, datasets.Image(decode=False))
    return rows if column == "image" else rows.rename_column(column, "image")


def rows_of(config: Any, split: str, columns: tuple[str, ...] = ()) -> Rows:
    """One split of the data that a training script's options name. Raises DataError."""
    return open_rows(
        config.dataset_name,
        data_files=config.data_files,
        config_name=config.dataset_config_name,
        split=split,
        image_column=config.image_column,
        columns=columns,
        streaming=config.streaming,
    )


def guarded(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows one by one. Raises DataError when they cannot be read on."""
    try:
        yield from rows
    except Exception as error:  # anything from a network away to a broken archive
        raise unreadable(error) from error


def unreadable(error: Exception) -> DataError:
    """What to say when the data breaks off."""
    why = without_secrets(f"{type(error).__name__}: {error}")
    return DataError(
        f"The data cannot be read on ({why}). A training run goes on from its "
        "last checkpoint with --resume_from_checkpoint latest."
    )


def is_plain_folder(name: str | None) -> bool:
    """Whether this is a local folder of photos alone: no folders for splits, no tables."""
    if name is None or not os.path.isdir(name):
        return False
    entries = {entry.lower() for entry in os.listdir(name)}
    tables = any(entry.endswith(_TABLES) for entry in entries)
    return not tables and not entries & _SPLITS


def decode_row(row: Row, *, at_least: int | None = None) -> Image.Image:
    """A row of `open_rows` as an RGB picture. Raises PhotoError if it cannot be read."""
    encoded = row["image"]
    if encoded is None:
        raise PhotoError("a row without a picture")
    content = encoded["bytes"]
    if content is None:
        content = _read(encoded["path"], row_name(row))
    try:
        return open_photo(content, at_least=at_least).convert("RGB")
    except PhotoError as error:
        raise PhotoError(str(error).replace("the picture", row_name(row))) from error


def _read(path: str, name: str) -> bytes:
    """What lies at a path, which may lead into an archive or to the network. Raises PhotoError."""
    waits = list(_WAITS) if "://" in path else []
    while True:
        try:
            with datasets.utils.file_utils.xopen(path, "rb") as file:
                return file.read()
        except Exception as error:  # archives and networks have no common base
            if not waits:
                why = without_secrets(f"{type(error).__name__}: {error}")
                raise PhotoError(f"{name} cannot be opened ({why}).") from error
            time.sleep(waits.pop(0))  # the server may be away


def is_picture(row: Row) -> bool:
    """Whether a row's name says that it is a picture: archives hold texts and tables as well."""
    path = (row["image"] or {}).get("path")
    kind = mimetypes.guess_type(path.split("::")[0])[0] if path else None
    return kind is None or kind.startswith("image/")


def row_name(row: Row) -> str:
    """What to call a row's picture in a message."""
    path = (row["image"] or {}).get("path")
    return path.split("::")[0].removeprefix("zip://") if path else NAMELESS


def value_of(rows: Rows, row: Row, column: str) -> str:
    """What a row holds in a column, as people write it: classes by their names."""
    value, kind = row[column], (rows.features or {}).get(column)
    if value is None:
        return "(none)"
    return kind.int2str(value) if isinstance(kind, datasets.ClassLabel) else str(value)


def open_digits(folder: str | os.PathLike[str], split: str) -> tuple[Tensor, Tensor]:
    """MNIST's pictures (N, 1, H, W) in [0, 1] and labels (N,), of "train" or "test".

    `folder` holds the four IDX files under their published names, gzipped or not. Raises DataError
    if one is missing or is no such file.
    """
    name = {"train": "train", "test": "t10k"}[split]
    pictures = _idx(folder, f"{name}-images-idx3-ubyte", 3)
    labels = _idx(folder, f"{name}-labels-idx1-ubyte", 1)
    if len(pictures) != len(labels):
        raise DataError(f"{folder}: {len(pictures)} pictures have {len(labels)} labels.")
    return pictures[:, None].float() / 255, labels.long()


def _idx(folder: str | os.PathLike[str], name: str, dimensions: int) -> Tensor:
    paths = [Path(folder, name), Path(folder, f"{name}.gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder} holds no {name}(.gz): give the folder of MNIST's IDX files.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
        if magic != 0x800 + dimensions:
            raise ValueError(f"magic number {magic}")
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        return torch.from_numpy(values.reshape(shape).copy())
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise DataError(f"{path} is no IDX file, or is truncated ({error}).") from error


class ColourPhotos:
    """The photos of some rows whose colours can be measured, with a progress bar.

    Iterating gives each with its row, (row, PIL RGB), at most `max_images`, and raises DataError
    if there is none. Those without colour, broken or under 7 pixels are named in `skipped`.
    """

    def __init__(self, rows: Rows, *, max_images: int | None = None) -> None:
        self.rows = rows
        self.max_images = max_images
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[tuple[Row, Image.Image]]:
        self.skipped = []
        count = 0
        total = getattr(self.rows, "num_rows", None)
        limit = min(filter(None, (self.max_images, total)), default=None)
        with tqdm(total=limit, unit="img") as bar:
            for row in guarded(self.rows):
                if self.max_images is not None and count >= self.max_images:
                    break
                try:
                    photo = decode_row(row)
                    if is_grey(photo) or min(photo.size) < SMALLEST:
                        raise PhotoError(f"{row_name(row)} is grey or under {SMALLEST} pixels")
                except PhotoError as error:
                    self.skipped.append(str(error))
                    bar.write(f"skipped: {error}", file=sys.stderr)
                    continue
                yield row, photo
                count += 1
                bar.update()
        if not count:
            raise DataError(
                f"No photo could be measured: {len(self.skipped)} skipped ({self.skipped[:3]})."
            )


def is_grey(photo: Image.Image) -> bool:
    """Whether an RGB picture has no colour: no channels of its 64 px thumbnail differ by over 6."""
    thumbnail = photo.resize((64, 64), Image.Resampling.BOX)
    return int(np.ptp(np.asarray(thumbnail), axis=2).max()) <= 6


def crop(
    photo: Image.Image,
    resolution: int,
    draw: random.Random,
    *,
    zoom: float = 1.25,
    flips: bool = True,
) -> Image.Image:
    """A random square of `resolution` pixels from the photo, flipped half of the time or never.

    The photo's short side is first brought to 1 to `zoom` times the resolution.
    """
    scale = resolution * draw.uniform(1, zoom) / min(photo.size)
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
    flip = flips and draw.random() < 0.5
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else square


def _features(rows: Rows) -> dict[str, Any]:
    return rows.features or rows._resolve_features().features or {}


def _check_columns(rows: Rows, wanted: tuple[str, ...]) -> None:
    features = _features(rows)
    for name in wanted:
        if name not in features:
            raise DataError(f"There is no column {name!r}; all: {', '.join(features)}.")
        if name == "image" or isinstance(features[name], datasets.Image):
            raise DataError(f"Column {name!r} is taken for pictures: name another.")


def _image_column(rows: Rows, wanted: str | None) -> str:
    features = _features(rows)
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
