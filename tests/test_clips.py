"""Clips from data sets of frames, from films, and from photos, on their way to training."""

import random
from fractions import Fraction

import datasets
import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from colorhub import footage
from colorhub.batches import PhotoBatches
from colorhub.clips import LENGTH, Source, mixed
from colorhub.data import decode_row, is_picture, open_rows
from colorhub.errors import DataError, OptionError
from colorhub.strips import Moving, frames_of, strip_of

av = pytest.importorskip("av")


def shade(number, size=(48, 32), seed=0):
    """A colourful frame whose mean tells its number."""
    photo = np.asarray(make_photo(*size, seed=seed)).astype(int) // 8
    return Image.fromarray((photo + 4 * number).clip(0, 255).astype(np.uint8))


def number_of(frame, seed=0):
    """Which `shade` a frame is."""
    start = (np.asarray(make_photo(48, 32, seed=seed)) // 8).mean()
    return round((np.asarray(frame).mean() - start) / 4)


def write_frames(folder, lengths, name="train"):
    """A data set of frames: clips of so many, by name."""
    rows = [(name, i) for name, length in lengths.items() for i in range(length)]
    data = {"image": [shade(i) for _, i in rows], "video": [name for name, _ in rows]}
    data["frame"] = [i for _, i in rows]
    features = {"image": datasets.Image(), "video": datasets.Value("string")}
    table = datasets.Dataset.from_dict(
        data, features=datasets.Features(features | {"frame": datasets.Value("int32")})
    )
    folder.mkdir(exist_ok=True)
    table.to_parquet(str(folder / f"{name}.parquet"))
    return str(folder)


def write_film(path, frames=10, size=(48, 32), rate=10):
    """A film of `shade`s."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 2_000_000
        for i in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(shade(i, size))))
        container.mux(stream.encode())
    return path


def strips(source):
    """Name and frames of each strip that training would get."""
    assert all(is_picture(row) for row in source.rows())
    return [
        (row["image"]["path"].removesuffix(".jpg"), frames_of(decode_row(row)))
        for row in source.rows()
    ]


def test_a_strip_is_one_picture_that_gives_its_frames_back():
    frames = [shade(i) for i in range(5)]
    row = strip_of("walk", frames)
    picture = decode_row(row)
    assert picture.size == (48, 5 * 32)
    again = frames_of(picture)
    assert [number_of(frame) for frame in again] == [0, 1, 2, 3, 4]
    for frame, known in zip(again, frames, strict=True):
        difference = np.abs(np.asarray(frame).astype(int) - np.asarray(known))
        assert difference.mean() < 2
    assert frames_of(make_photo()) is None


def test_large_frames_are_made_smaller_and_end_where_a_half_size_decoder_ends_them():
    (width, height) = frames_of(decode_row(strip_of("big", [make_photo(803, 601)] * 3)))[0].size
    assert (width, height) == (344, 256)
    halves = frames_of(decode_row(strip_of("big", [make_photo(803, 601)] * 3), at_least=150))
    assert halves[0].size == (172, 128)


def test_a_view_takes_neighbouring_frames_all_cropped_alike():
    same = [make_photo(48, 40)] * 9
    clip = Moving(4)(decode_row(strip_of("still", same)), 16, random.Random(0))
    assert clip.shape == (16, 16, 12) and clip.dtype == np.uint8
    first = clip[:, :, :3].astype(int)
    for i in range(1, 4):
        assert np.abs(clip[:, :, 3 * i : 3 * i + 3] - first).mean() < 1
    changing = decode_row(strip_of("shades", [shade(i) for i in range(9)]))
    starts = set()
    for seed in range(20):
        clip = Moving(4)(changing, 32, random.Random(seed))
        means = [clip[:, :, 3 * i : 3 * i + 3].mean() for i in range(4)]
        np.testing.assert_allclose(np.diff(means), 4, atol=1)
        starts.add(round(means[0] / 4))
    assert len(starts) >= 4


def test_over_a_photo_a_window_moves_at_even_speed():
    ramp = np.zeros((64, 96, 3), np.uint8)
    ramp[..., 0] = np.arange(96)[None] * 2
    view = Moving(5, pan=0.5, zoom=0)
    moved = []
    for seed in range(8):
        clip = view(Image.fromarray(ramp), 16, random.Random(seed))
        steps = np.diff([clip[:, :, 3 * i].mean() for i in range(5)])
        assert clip.shape == (16, 16, 15)
        np.testing.assert_allclose(steps, steps.mean(), atol=0.6)
        moved.append(abs(steps.mean()))
    assert max(moved) > 1
    still = Moving(3, pan=0, zoom=0)(make_photo(), 16, random.Random(0))
    assert np.array_equal(still[:, :, :3], still[:, :, 6:])


@pytest.mark.parametrize("size", [(8, 300), (300, 8), (9, 9)])
def test_photos_of_any_shape_can_be_moved_over(size):
    for seed in range(10):
        clip = Moving(3, pan=2, zoom=0.9)(make_photo(*size), 16, random.Random(seed))
        assert clip.shape == (16, 16, 9)


@pytest.mark.parametrize("streaming", [False, True])
def test_frames_of_a_data_set_become_strips(streaming, tmp_path, caplog):
    folder = write_frames(
        tmp_path / "set", {"long": LENGTH + 7, "walk": 6, "short": 2, "run.mp4": 4}
    )
    source = Source(folder, None, frames=4, hold_back=("walk",), streaming=streaming)
    found = {}
    for name, frames in strips(source):
        found.setdefault(name, []).append([number_of(frame) for frame in frames])
    numbers = list(range(LENGTH + 7))
    assert [len(each) for each in found["long"]] == [LENGTH, 7]
    assert found["long"][0][:20] == numbers[:20]
    assert found["run.mp4"] == [[0, 1, 2, 3]]
    assert set(found) == {"long", "run.mp4"}
    assert "short has 2 frames, fewer than the 4 of --clip_frames" in caplog.text
    assert [(name, len(frames)) for name, frames in source.held_back()] == [("walk", 6)]


def test_a_broken_frame_ends_a_clip_and_is_named(tmp_path, caplog):
    folder = write_frames(tmp_path / "set", {"walk": 9})
    rows = datasets.load_dataset(folder, split="train").cast_column(
        "image", datasets.Image(decode=False)
    )
    broken = rows.map(
        lambda row, i: {"image": {"bytes": b"no picture", "path": None}} if i == 5 else row,
        with_indices=True,
    )
    broken.to_parquet(str(tmp_path / "set" / "train.parquet"))
    found = strips(Source(folder, None, frames=3))
    assert [len(frames) for _, frames in found] == [5, 3]
    assert "skipped in clip walk" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_films_of_a_folder_become_strips(streaming, tmp_path, caplog):
    folder = tmp_path / "films"
    write_film(folder / "walk.mp4", frames=12)
    write_film(folder / "run.mkv", frames=6)
    write_film(folder / "short.avi", frames=2)
    (folder / "broken.mp4").write_bytes(b"this is no film")
    (folder / "notes.txt").write_text("not a film either")
    source = Source(None, str(folder), frames=4, hold_back=("run",), streaming=streaming)
    ((name, frames),) = strips(source)
    assert name == "walk" and [number_of(frame) for frame in frames] == list(range(12))
    assert "broken.mp4 cannot be read as a film" in caplog.text
    assert "short.avi has 2 frames" in caplog.text
    assert "notes" not in caplog.text
    ((name, frames),) = source.held_back()
    assert name == "run" and len(frames) == 6


def test_a_long_film_gives_scenes_from_all_over_it(tmp_path, monkeypatch):
    path = write_film(tmp_path / "long.mp4", frames=40)
    film = footage.probe(path, 4)
    assert film.frames == 4 and film.seconds == pytest.approx(4, abs=0.2)
    found = list(footage.scenes(film, length=5, side=16))
    assert found[0][0].size == (24, 16)
    starts = [number_of(scene[0]) for scene in found]
    assert starts == sorted(starts) and starts[-1] >= 10
    assert len({*starts}) == len(starts)


def test_a_film_that_breaks_off_gives_what_comes_before(tmp_path):
    path = write_film(tmp_path / "cut.avi", frames=60, size=(96, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (scene, *_) = footage.scenes(footage.probe(path, 4), length=8, side=64)
    assert len(scene) == 8


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"frames": 30}, DataError, "holds no clip of 30 frames .* fewer --clip_frames"),
        ({"hold_back": ("wlak",)}, OptionError, "wlak: there is no such clip. .*: run, walk"),
        ({"hold_back": ("walk", "run")}, DataError, "All clips are held back"),
        ({"video_column": "scene"}, DataError, "no column 'scene'"),
    ],
)
def test_a_source_without_clips_to_train_on_is_refused(more, error, message, tmp_path):
    folder = write_frames(tmp_path / "set", {"walk": 6, "run": 5})
    with pytest.raises(error, match=message):
        Source(folder, None, **{"frames": 4, **more}).rows()


def test_a_folder_without_films_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no films: give a folder with \.mp4"):
        Source(None, str(tmp_path)).rows()
    (tmp_path / "broken.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="holds no clip of 16 frames"):
        Source(None, str(tmp_path)).rows()


@pytest.mark.parametrize("streaming", [False, True])
def test_clips_among_photos_have_their_share_and_every_photo_comes(
    streaming, tmp_path, photo_folder
):
    folder = write_frames(tmp_path / "set", {"walk": 4, "run": 4})
    photos = open_rows(str(photo_folder), split="train", streaming=streaming)
    clips = Source(folder, None, frames=4, streaming=streaming).rows()
    names = [row["image"]["path"] for row in mixed(photos, clips, share=0.5, seed=0)]
    taken = [name in ("walk.jpg", "run.jpg") for name in names]
    assert len(set(names) - {"walk.jpg", "run.jpg"}) == 16
    assert {"walk.jpg", "run.jpg"} < set(names)
    assert 0.3 < sum(taken) / len(taken) < 0.7
    assert mixed(photos, None, share=0.5, seed=0) is photos
    assert mixed(None, clips, share=0.5, seed=0) is clips


def test_clips_travel_in_the_batches_of_photos(tmp_path):
    folder = write_frames(tmp_path / "set", {"walk": 6, "run": 5, "jump": 9})
    rows = Source(folder, None, frames=4).rows()
    photos = PhotoBatches(rows, resolution=16, batch_size=2, seed=0, view=Moving(4))
    batches = list(photos)
    assert [tuple(batch.rgb.shape) for batch in batches] == [(2, 12, 16, 16), (1, 12, 16, 16)]


def test_ways_to_move_that_make_no_sense_are_refused():
    for wrong in ({"frames": 0}, {"pan": -1}, {"zoom": 1}):
        with pytest.raises(OptionError, match="--clip_frames"):
            Moving(**wrong)
