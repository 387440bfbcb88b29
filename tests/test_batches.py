"""Every photo once an epoch, whoever reads it; and the place in an epoch."""

import io
from dataclasses import dataclass

import datasets
import numpy as np
import pytest
import torch
from conftest import on_two_ranks
from PIL import Image

from colorhub import batches
from colorhub.batches import Epoch, PhotoBatches
from colorhub.data import open_rows
from colorhub.errors import DataError
from colorhub.ranks import rank, world_size
from colorhub.runlog import Skipped


@dataclass(frozen=True)
class Case:
    shards: tuple[int, ...]  # photos in each
    streaming: bool
    workers: int = 0
    accumulate: int = 1
    bad: tuple[int, ...] = ()
    group: int | None = None  # rows of a Parquet row group

    @property
    def good(self) -> int:
        return sum(self.shards) - len(self.bad)


CASES = {
    "local": Case((23,), streaming=False),
    "local, workers": Case((40,), streaming=False, workers=2, bad=(0, 1, 2, 3, 17)),
    "local, accumulated": Case((30,), streaming=False, accumulate=3, bad=(5,)),
    "one shard": Case((21,), streaming=True, workers=2, bad=(4, 20)),
    "one shard, row groups": Case((32,), streaming=True, workers=2, group=4),
    "fewer shards than readers": Case((9, 6, 8), streaming=True, workers=2),
    "three shards": Case((9, 9, 9), streaming=True, bad=(11,)),
    "uneven shards": Case((1, 25, 3, 2), streaming=True, workers=1, bad=(2, 3, 4)),
    "uneven, accumulated": Case((17, 2, 8), streaming=True, workers=2, accumulate=2),
}


def colour(i: int) -> tuple[int, int, int]:
    return 20 + 4 * i, 200, 40


def encoded(i: int, case: Case) -> bytes:
    """A photo that is told by its colour however it is cropped."""
    if i in case.bad:
        return b"broken"
    buffer = io.BytesIO()
    Image.new("RGB", (20, 18), colour(i)).save(buffer, "PNG")
    return buffer.getvalue()


def write_shards(case: Case, folder) -> str:
    folder.mkdir(exist_ok=True)
    first = 0
    for n, size in enumerate(case.shards):
        photos = [{"bytes": encoded(first + i, case), "path": f"{first + i}"} for i in range(size)]
        features = datasets.Features({"image": datasets.Image()})
        shard = datasets.Dataset.from_dict({"image": photos}, features=features)
        shard.to_parquet(folder / f"{n}.parquet", batch_size=case.group or size)
        first += size
    return str(folder / "*.parquet")


def photos_of(case: Case, files: str) -> PhotoBatches:
    return PhotoBatches(
        open_rows(None, data_files=(files,), streaming=case.streaming),
        resolution=16,
        batch_size=2,
        seed=0,
        workers=case.workers,
        rank=rank(),
        world=world_size(),
    )


def ids(step: list[torch.Tensor]) -> list[int]:
    return [(red - 20) // 4 for rgb in step for red in rgb[:, 0, 0, 0].tolist()]


def read(_, case: Case, files: str):
    """An epoch's steps, what it says of itself, and the same when gone on from three places."""
    photos = photos_of(case, files)
    epoch = Epoch(photos, 1, accumulate=case.accumulate)
    steps, places = [], []
    for step in epoch:
        steps.append(ids(step))
        places.append(epoch.place)
    resumed = {}
    for taken in {1, len(steps) // 2, len(steps)}:
        again = Epoch(photos, 1, accumulate=case.accumulate, place=places[taken - 1])
        resumed[taken] = [ids(step) for step in again], again.totals(), again.left_over
    return steps, epoch.totals(), epoch.left_over, resumed


@pytest.fixture(scope="module")
def epochs(tmp_path_factory):
    """All cases as one process and as two read them."""
    folder = tmp_path_factory.mktemp("shards")
    files = {name: write_shards(case, folder / name) for name, case in CASES.items()}
    jobs = [(case, files[name]) for name, case in CASES.items()]
    pairs = on_two_ranks(read_all, folder, jobs)
    both = dict(zip(CASES, zip(*pairs, strict=True), strict=True))
    return {(name, 1): (read(0, case, files[name]),) for name, case in CASES.items()} | {
        (name, 2): pair for name, pair in both.items()
    }


def read_all(rank, jobs):
    return [read(rank, *job) for job in jobs]


each_case = pytest.mark.parametrize("name", CASES)
each_world = pytest.mark.parametrize("world", [1, 2])


@each_case
@each_world
def test_every_photo_is_used_once_but_for_what_fills_no_step(epochs, name, world):
    case, parts = CASES[name], epochs[name, world]
    used = [i for steps, *_ in parts for step in steps for i in step]
    assert len(used) == len(set(used)) and not set(used) & set(case.bad)
    a_step = 2 * world * case.accumulate
    for steps, totals, left_over, _ in parts:
        assert len(steps) == case.good // a_step
        assert totals == (sum(case.shards), len(case.bad))
        assert left_over == case.good % a_step
    assert len(used) == case.good - case.good % a_step


@each_case
@each_world
def test_an_epoch_goes_on_with_the_very_photo_that_comes_next(epochs, name, world):
    for steps, totals, left_over, resumed in epochs[name, world]:
        for taken, again in resumed.items():
            assert again == (steps[taken:], totals, left_over)


def test_no_process_reads_another_s_shards(tmp_path):
    case = Case((5, 5, 5, 5), streaming=True, workers=1)
    files = write_shards(case, tmp_path / "shards")
    owners = []
    for each in range(2):
        photos = photos_of(case, files)
        photos.rank, photos.world = each, 2
        rows = [row["image"]["path"] for _, row, _ in photos._share(0)]
        owners.append({int(name) // 5 for name in rows})
    assert len(owners[0]) == len(owners[1]) == 2 and not owners[0] & owners[1]


def test_with_other_workers_the_place_is_found_by_reading_again(tmp_path):
    case = CASES["local, workers"]
    files = write_shards(case, tmp_path / "shards")
    epoch = Epoch(photos_of(case, files), 0)
    steps = iter(epoch)
    for _ in range(3):
        next(steps)
    other = photos_of(Case(case.shards, streaming=False), files)
    whole = [ids(step) for step in Epoch(other, 0)]
    again = Epoch(other, 0, place=epoch.place, taken=3)
    assert again.replays == 3 and [ids(step) for step in again] == whole[3:]


@pytest.mark.parametrize("streaming", [False, True])
def test_too_many_bad_photos_end_the_epoch_with_their_list(tmp_path, streaming):
    case = Case((30,), streaming=streaming, bad=(7, 8))
    files = write_shards(case, tmp_path / "shards")
    listed = Skipped(tmp_path / "skipped.txt")
    assert len(list(Epoch(photos_of(case, files), 0, max_bad_fraction=2 / 30))) == 14
    with pytest.raises(
        DataError, match=r"2 of the first \d+ .*--max_bad_fraction 0.05.*Skipped were: [78]"
    ):
        list(Epoch(photos_of(case, files), 0, max_bad_fraction=0.05, skipped=listed))
    assert len(listed.lines()) == 2


def test_a_photo_is_listed_once_however_often_it_is_skipped(tmp_path):
    listed = Skipped(tmp_path / "skipped.txt")
    listed.add(["a.png is grey", "b.png\nis grey"])
    listed.add(["a.png is grey"])
    Skipped(tmp_path / "skipped.txt").add(["a.png is grey", "c.png is grey"])
    assert listed.lines() == ["a.png is grey", "b.png is grey", "c.png is grey"]


class Breaks:
    """A stream whose connection breaks after some rows, a given number of times."""

    num_shards = 1

    def __init__(self, rows: int, *, every: int, times: int) -> None:
        self.rows, self.every, self.times = rows, every, times
        self.start = 0

    def shard(self, *_, **__) -> "Breaks":
        self.start = 0
        return self

    def skip(self, n: int) -> "Breaks":
        self.start = n
        return self

    def iter(self, _):
        for i in range(self.start, self.rows):
            if self.times and i - self.start == self.every:
                self.times -= 1
                raise ConnectionError("gone")
            yield {"image": [i]}


def test_a_stream_that_breaks_goes_on_at_the_right_row(monkeypatch):
    waits = []
    monkeypatch.setattr(batches.time, "sleep", waits.append)
    photos = PhotoBatches(range(1), resolution=16, batch_size=2, seed=0)
    photos.rows = Breaks(20, every=6, times=3)
    assert [row["image"] for _, row in photos._connected(0, 0)] == list(range(20))
    assert waits == [1, 1, 1]
    photos.rows = Breaks(20, every=0, times=100)
    with pytest.raises(DataError, match="cannot be read on"):
        list(photos._connected(0, 0))
    assert waits[3:] == [1, 2, 4, 8, 16, 32]


def test_blocks_are_shuffled_anew_each_epoch_and_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(batches, "BLOCK", 8)
    case = Case((20,), streaming=True)
    photos = photos_of(case, write_shards(case, tmp_path / "shards"))
    orders = []
    for number in (0, 0, 1):
        epoch = Epoch(photos, number)
        orders.append([i for step in epoch for i in ids(step)])
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0][:8]) == set(range(8)) and orders[0][:8] != list(range(8))
    epoch = Epoch(photos, 0)
    places = [epoch.place for _ in epoch]
    for taken, place in enumerate(places, 1):
        rest = [i for step in Epoch(photos, 0, place=place) for i in ids(step)]
        assert rest == orders[0][2 * taken :]


def test_crops_do_not_depend_on_who_reads(photo_folder):
    rows = open_rows(str(photo_folder), streaming=True)
    seen = []
    for world in (1, 2):
        photos = set()
        for each in range(world):
            part = PhotoBatches(rows, resolution=16, batch_size=1, seed=0, rank=each, world=world)
            photos |= {np.asarray(batch.rgb).tobytes() for batch in part.loader() if len(batch.rgb)}
        seen.append(photos)
    assert seen[0] == seen[1] and len(seen[0]) == 16


def test_a_crop_of_a_part_is_not_taken_from_a_photo_decoded_too_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    sizes = []

    def view(photo, resolution, draw):
        sizes.append(min(photo.size))
        return np.zeros((resolution, resolution, 3), np.uint8)

    rows = open_rows(str(tmp_path))
    list(PhotoBatches(rows, resolution=64, batch_size=1, seed=0, view=view))
    assert len(sizes) == 1 and 2 * 64 <= sizes[0] < 600
