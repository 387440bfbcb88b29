"""MNIST's IDX files, as published and damaged."""

import gzip
import struct

import numpy as np
import pytest
import torch

from colorhub.data import decode_row, open_digits, row_name
from colorhub.digits import digit_rows, is_digits
from colorhub.errors import DataError

NAMES = {"train": "train", "test": "t10k"}


def idx(values, *, magic=0x800):
    """An array as an IDX file: Y. LeCun's format for MNIST, unsigned bytes."""
    header = struct.pack(f">{1 + values.ndim}I", magic + values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_digits(folder, counts, *, side=28, packed=False):
    """Pictures in which each digit has its own bright row, and their labels."""
    folder.mkdir(exist_ok=True)
    arrays = {}
    for seed, (split, count) in enumerate(counts.items()):
        random = np.random.default_rng(seed)
        labels = np.arange(count) % 10
        pictures = random.integers(0, 60, (count, side, side))
        pictures[np.arange(count), labels * side // 10] = 255
        for name, values in (("images-idx3", pictures), ("labels-idx1", labels)):
            content = idx(values)
            path = folder / f"{NAMES[split]}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
        arrays[split] = pictures, labels
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_and_labels_are_read_as_they_are(packed, tmp_path):
    arrays = write_digits(tmp_path, {"train": 7, "test": 3}, side=5, packed=packed)
    for split, (pictures, labels) in arrays.items():
        grey, digits = open_digits(tmp_path, split)
        assert grey.shape == (len(labels), 1, 5, 5)
        assert grey.dtype == torch.float32 and digits.dtype == torch.int64
        assert np.array_equal((grey[:, 0] * 255).round().numpy(), pictures)
        assert grey.max() == 1
        assert digits.tolist() == labels.tolist()


def test_a_rectangle_keeps_its_sides(tmp_path):
    pictures = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(pictures))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([4, 2])))
    grey, _ = open_digits(tmp_path, "test")
    assert np.array_equal((grey[:, 0] * 255).round().numpy(), pictures)


def spoil_deflate(content):
    return content[:20] + bytes(len(content) - 20)


@pytest.mark.parametrize("part", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize(
    ("packed", "change"),
    [
        (False, lambda content: content[:-1]),  # truncated
        (False, lambda content: content[:3]),  # within its head
        (False, lambda content: b""),
        (False, lambda content: content + b"\0"),
        (False, lambda content: b"\0\0\x09" + content[3:]),  # another kind of numbers
        (False, lambda content: content[:3] + b"\2" + content[4:]),  # of another shape
        (False, gzip.compress),  # without the name for it
        (True, lambda content: content[:-9]),
        (True, spoil_deflate),
        (True, gzip.decompress),  # with the name, but plain
    ],
)
def test_a_file_that_is_damaged_is_named(part, packed, change, tmp_path):
    write_digits(tmp_path, {"train": 5}, packed=packed)
    path = tmp_path / f"train-{part}-ubyte{'.gz' if packed else ''}"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path.name} is no IDX file, or is truncated"):
        open_digits(tmp_path, "train")


@pytest.mark.parametrize("part", ["images-idx3", "labels-idx1"])
def test_a_file_that_is_missing_is_named(part, tmp_path):
    write_digits(tmp_path, {"train": 5, "test": 5})
    (tmp_path / f"t10k-{part}-ubyte").unlink()
    open_digits(tmp_path, "train")
    with pytest.raises(DataError, match=rf"holds no t10k-{part}-ubyte\(.gz\)"):
        open_digits(tmp_path, "test")


def test_pictures_without_labels_are_refused(tmp_path):
    write_digits(tmp_path, {"train": 5})
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(4)))
    with pytest.raises(DataError, match="5 pictures have 4 labels"):
        open_digits(tmp_path, "train")


def test_digits_are_rows_like_any_other_picture(tmp_path):
    arrays = write_digits(tmp_path, {"train": 7, "test": 3}, packed=True)
    for split, (pictures, _) in arrays.items():
        rows = digit_rows(tmp_path, split)
        assert rows.column_names == ["image"]
        for row, levels in zip(rows, pictures, strict=True):
            photo = decode_row(row)
            assert photo.mode == "RGB" and row_name(row) == "a picture without a name"
            assert np.array_equal(np.asarray(photo), np.stack([levels] * 3, axis=2))


def test_a_folder_of_digits_is_told_from_others(tmp_path):
    assert not is_digits(None) and not is_digits("owner/mnist") and not is_digits(str(tmp_path))
    (tmp_path / "photo.png").touch()
    assert not is_digits(str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").touch()
    assert is_digits(str(tmp_path))
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        digit_rows(tmp_path, "train")
    with pytest.raises(DataError, match="train and test, not 'dev'"):
        digit_rows(tmp_path, "dev")
