import io
import tarfile
import zipfile
from collections import Counter

import datasets
import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image

from colorhub import data
from colorhub.batches import PhotoBatches
from colorhub.data import decode_row, is_grey, open_rows
from colorhub.errors import DataError, PhotoError

# datasets waits so long at the end of each Parquet stream, for threads that have ended here.
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.01


def png(photo: Image.Image) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def zipped() -> bytes:
    """An archive as MIRFLICKR's: numbered JPEGs and a few text files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for i in range(12):
            jpeg = io.BytesIO()
            make_photo(seed=i).save(jpeg, "JPEG")
            file.writestr(f"mirflickr/im{i}.jpg", jpeg.getvalue())
        file.writestr("mirflickr/doc/README.txt", "no photo")
    return archive.getvalue()


def parquet(photos: list[bytes], path) -> bytes:
    rows = {"image": [{"bytes": photo, "path": None} for photo in photos]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return path.read_bytes()


def batches(rows, **options):
    options = {"resolution": 16, "batch_size": 4, "seed": 0} | options
    epoch = options.pop("epoch", 0)
    photos = PhotoBatches(rows, **options)
    photos.set_epoch(epoch)
    return [batch for batch in photos.loader() if len(batch.rgb) or batch.skipped]


def test_a_local_folder_gives_batches_of_squares(photo_folder):
    rows = open_rows(str(photo_folder))
    found = batches(rows)
    assert [tuple(batch.rgb.shape) for batch in found] == [(4, 3, 16, 16)] * 4
    assert found[0].rgb.dtype == torch.uint8
    assert sum(len(batch.skipped) for batch in found) == 0


def test_an_epoch_has_its_own_order_and_crops_and_is_the_same_again(photo_folder):
    rows = open_rows(str(photo_folder))
    first, again, second = (batches(rows, epoch=epoch) for epoch in (0, 0, 1))
    assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].rgb, second[0].rgb)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_the_joined_batches_of_one_process(photo_folder, workers):
    rows = open_rows(str(photo_folder))
    whole = batches(rows, batch_size=4, workers=workers)
    halves = [batches(rows, batch_size=2, rank=rank, world=2, workers=workers) for rank in (0, 1)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 4
    for joined, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(torch.stack([p.rgb for p in parts], dim=1).flatten(0, 1), joined.rgb)


def test_broken_and_grey_photos_are_skipped_and_named(tmp_path):
    photos = [png(make_photo(seed=i)) for i in range(9)]
    photos[2] = b"broken"
    photos[5] = png(make_photo().convert("L"))
    photos[7] = photos[7][:200]
    parquet(photos, tmp_path / "photos.parquet")
    for streaming in (False, True):
        rows = open_rows(None, data_files=(str(tmp_path / "*.parquet"),), streaming=streaming)
        found = batches(rows, batch_size=2)
        assert sum(len(batch.rgb) for batch in found) == 6
        reasons = [reason for batch in found for reason in batch.skipped]
        assert len(reasons) == 3
        assert sum("grey" in reason for reason in reasons) == 1


def test_grey_is_told_from_faint_colour():
    grey = make_photo(80, 80).convert("L").convert("RGB")
    assert is_grey(grey)
    noisy = np.asarray(grey, int) + np.random.default_rng(0).integers(-2, 3, (80, 80, 3))
    assert is_grey(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    faint = np.asarray(grey, int) + np.array([12, 0, -12])
    assert not is_grey(Image.fromarray(faint.clip(0, 255).astype(np.uint8)))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_zip_at_a_url_is_read_and_its_text_files_passed_over(hub_server, zipped, streaming):
    hub_server.static["/files/photos.zip"] = zipped
    # Under its other name: datasets takes what lies at HF_ENDPOINT for a Hub repository.
    address = f"{hub_server.url}/files/photos.zip".replace("127.0.0.1", "localhost")
    rows = open_rows(None, data_files=(address,), streaming=streaming)
    found = batches(rows)
    assert sum(len(batch.rgb) for batch in found) == 12
    assert not [reason for batch in found for reason in batch.skipped]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_tar_at_a_url_is_read(hub_server, streaming):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        for i in range(8):
            content = png(make_photo(seed=i))
            about = tarfile.TarInfo(f"val_256/Places365_val_{i:08}.png")
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    hub_server.static["/files/val.tar"] = archive.getvalue()
    address = f"{hub_server.url}/files/val.tar".replace("127.0.0.1", "localhost")
    rows = open_rows(None, data_files=(address,), streaming=streaming)
    assert sum(len(batch.rgb) for batch in batches(rows)) == 8


def test_an_address_s_secrets_are_in_no_message(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError) as caught:
        open_rows(None, data_files=("http://me:secret@127.0.0.1:9/a.parquet?token=secret",))
    assert "127.0.0.1" in str(caught.value) and "secret" not in str(caught.value)


def test_a_photo_on_a_server_is_asked_for_again(hub_server, monkeypatch):
    monkeypatch.setattr(data, "_WAITS", (0.01, 0.01, 0.01))
    hub_server.static["/photo.png"] = png(make_photo())
    address = hub_server.url.replace("127.0.0.1", "localhost") + "/photo.png"
    row = {"image": {"bytes": None, "path": address}}
    hub_server.fault(path="photo", status=503, times=3)
    assert decode_row(row).size == make_photo().size
    hub_server.fault(path="photo", status=503)
    with pytest.raises(PhotoError, match=r"photo\.png cannot be opened"):
        decode_row(row)


def test_a_damaged_member_of_an_archive_is_one_bad_photo(hub_server, zipped, monkeypatch):
    monkeypatch.setattr(data, "_WAITS", ())
    damaged = bytearray(zipped)
    start = damaged.index(b"im3.jpg") + 60
    damaged[start : start + 40] = bytes(40)
    hub_server.static["/photos.zip"] = bytes(damaged)
    address = f"{hub_server.url}/photos.zip".replace("127.0.0.1", "localhost")
    found = batches(open_rows(None, data_files=(address,), streaming=True))
    assert sum(len(batch.rgb) for batch in found) == 11
    assert ["im3.jpg" in reason for batch in found for reason in batch.skipped] == [True]


def test_parquet_shards_at_urls_are_streamed(hub_server, tmp_path):
    for shard in range(2):
        photos = [png(make_photo(seed=10 * shard + i)) for i in range(6)]
        hub_server.static[f"/files/{shard}.parquet"] = parquet(photos, tmp_path / "shard.parquet")
    server = hub_server.url.replace("127.0.0.1", "localhost")
    addresses = tuple(f"{server}/files/{shard}.parquet" for shard in range(2))
    rows = open_rows(None, data_files=addresses, streaming=True)
    assert sum(len(batch.rgb) for batch in batches(rows)) == 12
    split = [batches(rows, rank=rank, world=2, batch_size=2) for rank in (0, 1)]
    assert [sum(len(batch.rgb) for batch in part) for part in split] == [6, 6]


def test_a_data_set_on_the_hub_is_streamed_by_its_id(hub_server, photo_folder):
    local = datasets.load_dataset("imagefolder", data_dir=str(photo_folder))
    local.push_to_hub("owner/photos", token="owner-token")
    rows = open_rows("owner/photos", streaming=True)
    assert sum(len(batch.rgb) for batch in batches(rows)) == 16


def test_streamed_photos_are_shuffled_anew_each_epoch(photo_folder):
    rows = open_rows(str(photo_folder), streaming=True)
    for share in ({}, {"rank": 1, "world": 2}):
        first, second = batches(rows, **share), batches(rows, epoch=1, **share)
        assert not torch.equal(first[0].rgb, second[0].rgb)


def test_the_names_in_a_folder_of_photos_mean_nothing(tmp_path):
    folder = tmp_path / "my [old] photos"
    (folder / "trip").mkdir(parents=True)
    for name in ("train-station.png", "test shot.png", "trip/Müller.png", "a.png"):
        make_photo().save(folder / name)
    for split in ("train", "test"):
        assert len(open_rows(str(folder), split=split)) == 4


def test_a_broken_archive_is_a_data_error(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="cannot be opened"):
        open_rows(None, data_files=(str(tmp_path / "photos.zip"),))


def test_small_photos_are_enlarged_and_narrow_ones_fit():
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(make_photo(*size)), "path": None} for size in [(5, 90), (9, 3)]]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    (batch,) = batches(rows, batch_size=2)
    assert batch.rgb.shape == (2, 3, 16, 16)


def test_the_column_is_found_or_asked_for(tmp_path):
    photo = {"bytes": png(make_photo()), "path": None}
    features = datasets.Features({"left": datasets.Image(), "right": datasets.Image()})
    pair = datasets.Dataset.from_dict({"left": [photo], "right": [photo]}, features=features)
    pair.to_parquet(tmp_path / "pair.parquet")
    files = (str(tmp_path / "pair.parquet"),)
    with pytest.raises(DataError, match=r"--image_column.*left, right"):
        open_rows(None, data_files=files)
    with pytest.raises(DataError, match="'middle' holds no pictures"):
        open_rows(None, data_files=files, image_column="middle")
    rows = open_rows(None, data_files=files, image_column="right")
    assert decode_row(rows[0]).size == make_photo().size


def test_what_cannot_be_found_is_named(photo_folder):
    with pytest.raises(DataError, match="no such file"):
        open_rows(None, data_files=("absent/*.parquet",))
    with pytest.raises(DataError, match="validation"):
        open_rows(str(photo_folder), split="validation")
    with pytest.raises(DataError, match="owner/absent"):
        open_rows("owner/absent")


def test_every_photo_of_an_epoch_is_used_once(photo_folder):
    rows = open_rows(str(photo_folder))
    photos = PhotoBatches(rows, resolution=16, batch_size=2, seed=0, rank=0, world=2)
    names = Counter(key for key, *_ in photos._share(0))
    photos.rank = 1
    names += Counter(key for key, *_ in photos._share(0))
    assert names == Counter(str(i) for i in range(16))
