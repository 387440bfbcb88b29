"""Films, at the level of what people type."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import ROOT, make_generator, make_photo
from made_films import make_film, moving, packets_of, pictures_of, times_of
from torch import nn

from colorhub import filming, generators, weights
from colorhub.cli import main
from colorhub.films import open_film
from colorhub.journal import Job


@pytest.fixture(autouse=True)
def variants(tmp_path, monkeypatch):
    weights.save(make_generator("Autoencoder"), tmp_path / "variants" / "tiny")
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))


def colorize(*words, variant="tiny"):
    try:
        return main(["colorize", *map(str, words), "--variant", variant])
    except SystemExit as end:
        return end.code


def chroma(pictures):
    return np.ptp(pictures.astype(int), axis=-1).mean()


def parts_of(output):
    return output.with_name(f".{output.name}.part")


def test_a_film_comes_back_in_colour_with_its_sound_and_its_times(tmp_path, capsys):
    film = make_film(tmp_path / "film.mp4", audio="aac", aspect=Fraction(4, 3))
    output = tmp_path / "out.mp4"
    assert colorize(film, "--output", output, "--note") == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert times_of(output) == times_of(film)
    assert packets_of(output) == packets_of(film)
    before, after = pictures_of(film), pictures_of(output)
    assert after.shape == before.shape
    assert chroma(before) < 2 < 8 < chroma(after)
    grey = after @ [0.299, 0.587, 0.114]
    assert np.abs(grey - before.mean(3)).mean() < 6  # tones stay
    with av.open(str(output)) as opened:
        stream = opened.streams.video[0]
        assert (stream.sample_aspect_ratio, stream.average_rate) == (Fraction(4, 3), 25)
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.color_range) == ("h264", "yuv420p", 1)
        assert stream.duration * stream.time_base == Fraction(20, 25)
        assert opened.metadata["comment"].startswith("colorized by tiny@")
    assert not parts_of(output).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "out.mp4", "variants"}


def test_a_variable_rate_stays_as_it_is(tmp_path):
    times = [500, 1000, 4000, 4001, 4100, 30000, 90000, 90900]
    tick = Fraction(1, 90000)
    film = make_film(tmp_path / "film.mp4", len(times), times=times, time_base=tick)
    for ending in (".mp4", ".mov"):
        assert colorize(film, "--output", tmp_path / f"out{ending}") == 0
        assert times_of(tmp_path / f"out{ending}") == times_of(film)
    assert colorize(film, "--output", tmp_path / "out.mkv") == 0  # which counts milliseconds
    shown = times_of(tmp_path / "out.mkv")
    assert max(map(abs, np.subtract(shown, times_of(film)))) < 0.0011


@pytest.mark.parametrize(
    ("name", "made", "shape"),
    [
        ("turned.mp4", {"turned": 90}, (64, 48)),
        ("half.mp4", {"turned": 180}, (48, 64)),
        ("odd.mkv", {"pictures": list(moving(5, (35, 21))), "form": "yuv444p"}, (21, 35)),
        ("tiny.mp4", {"pictures": list(moving(5, (2, 2)))}, (2, 2)),
        ("one.mp4", {"pictures": 1}, (48, 64)),
        ("deep.mp4", {"pictures": 5, "form": "yuv420p10le", "codec": "libx265"}, (48, 64)),
        ("grey.mkv", {"pictures": 5, "form": "gray", "codec": "ffv1"}, (48, 64)),
        ("old.avi", {"codec": "mpeg4", "audio": "libmp3lame"}, (48, 64)),
        ("broadcast.mts", {"audio": "aac", "container": "mpegts"}, (48, 64)),
        ("web.webm", {"codec": "libvpx-vp9", "audio": "libopus"}, (48, 64)),
    ],
)
def test_films_of_many_kinds(name, made, shape, tmp_path, capsys):
    film, output = make_film(tmp_path / name, **made), tmp_path / "out.mp4"
    assert colorize(film, "--output", output) == 0, capsys.readouterr().err
    after = pictures_of(output)
    assert after.shape[1:3] == shape
    turns = made.get("turned", 0) // 90
    before = np.rot90(pictures_of(film), turns, axes=(1, 2)).astype(int)
    assert len(after) == len(before)
    assert np.abs(after.mean(3) - before.mean(3)).mean() < 20
    if turns:
        assert np.abs(after.mean(3) - before[:, ::-1, ::-1].mean(3)).mean() > 20
    times, start = times_of(film), open_film(film).start
    assert np.allclose(np.subtract(times, float(start)), np.array(times_of(output), float))
    assert len(packets_of(output)) == len(packets_of(film))
    assert ("10 bits" in capsys.readouterr().err) == (name == "deep.mp4")


def test_sound_that_a_container_does_not_hold_is_encoded_again(tmp_path, capsys):
    film = make_film(tmp_path / "film.mp4", audio="aac")
    assert colorize(film, "--output", tmp_path / "out.webm") == 0
    assert "encoded as libopus" in capsys.readouterr().err
    assert len(packets_of(tmp_path / "out.webm")) >= 30
    assert times_of(tmp_path / "out.webm") == times_of(film)


def test_colours_are_read_by_the_matrix_that_the_film_names(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8) + np.array((40, 160, 60), np.uint8)
    levels = []
    for matrix in (1, 5):
        film = make_film(tmp_path / f"{matrix}.mp4", [picture] * 3, matrix=matrix)
        output = tmp_path / f"out{matrix}.mp4"
        assert colorize(film, "--output", output, "--strength", 0) == 0
        levels.append(pictures_of(output).mean())
    assert abs(levels[0] - levels[1]) < 1.5
    lightness = 0.2126 * 0.0212 + 0.7152 * 0.3515 + 0.0722 * 0.0452  # the colour's light
    assert abs(levels[0] - 255 * (1.055 * lightness ** (1 / 2.4) - 0.055)) < 3


KILLED = """
import os, signal, sys
from colorhub import filming
from colorhub.cli import main
filming.SEGMENT, write, written = 8, filming.Segment.write, []
def killing(self, *frame):
    written.append(frame)
    if len(written) == 21:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *frame)
filming.Segment.write = killing
sys.exit(main(sys.argv[1:]))
"""


def test_a_film_that_was_killed_in_the_middle_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(filming, "SEGMENT", 8)
    times = [i * 3003 + (i % 3) * 500 for i in range(40)]
    tick = Fraction(1, 90000)
    film = make_film(tmp_path / "film.mp4", 40, times=times, time_base=tick, audio="aac")
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert colorize(film, "--output", whole, "--smooth") == 0
    words = ["colorize", film, "--output", output, "--variant", "tiny", "--smooth"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists() and len(list(parts_of(output).glob("*.nut"))) >= 2
    read = []
    seen = filming.Colorizer.seen
    monkeypatch.setattr(filming.Colorizer, "seen", lambda *given: read.append(1) or seen(*given))
    assert colorize(film, "--output", output, "--smooth") == 0
    assert len(read) == 40 - 16  # two segments were done
    assert times_of(output) == times_of(film)
    assert np.array_equal(pictures_of(output), pictures_of(whole))
    assert packets_of(output) == packets_of(film)
    assert not parts_of(output).exists()


def test_a_disk_that_is_full_is_told_and_what_is_done_stays(tmp_path):
    film, output = make_film(tmp_path / "film.mp4", moving(40, (160, 120))), tmp_path / "out.mp4"
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    code = full + KILLED.replace("== 21", "== -1")
    words = ["colorize", film, "--output", output, "--variant", "tiny"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not output.exists()
    assert colorize(film, "--output", output) == 0
    assert len(pictures_of(output)) == 40


def test_what_was_begun_in_another_way_is_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(filming, "SEGMENT", 4)
    film, output = make_film(tmp_path / "film.mp4", 12), tmp_path / "out.mp4"
    stopped(film, output, 6)
    assert colorize(film, "--output", output, "--strength", "0") == 0
    assert chroma(pictures_of(output)) < 2


def stopped(film, output, frames, **settings):
    """Colour so many frames, and stop."""
    colorizer = filming.load(filming.hub.resolve("tiny"))
    events = filming.Filming(colorizer, filming.Settings(**settings)).color(Job(film, output))
    for _ in range(frames):
        assert isinstance(next(events), filming.Step)
    events.close()


def test_an_output_is_replaced_only_when_asked_and_the_film_never(tmp_path, capsys):
    film, output = make_film(tmp_path / "film.mp4", 3), tmp_path / "out.mp4"
    output.write_bytes(b"as it was")
    content = film.read_bytes()
    assert colorize(film, "--output", output) == 1
    assert output.read_bytes() == b"as it was"
    assert "--overwrite" in capsys.readouterr().err
    assert colorize(film, "--output", output, "--overwrite") == 0
    assert len(pictures_of(output)) == 3
    assert colorize(film, "--output", film, "--overwrite") == 2
    assert film.read_bytes() == content


def test_what_is_no_film_is_named_in_one_sentence(tmp_path, capsys):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as made:
        stream = made.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        frame.sample_rate = 48000
        made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    old = make_film(tmp_path / "old.avi", 3, codec="mpeg4").read_bytes()
    (tmp_path / "old.avi").write_bytes(old.replace(b"FMP4", b"ZZZZ"))
    (tmp_path / "text.mp4").write_text("no film" * 999)
    (tmp_path / "empty.mp4").write_bytes(b"")
    whole = make_film(tmp_path / "whole.mp4", 60).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, words in {
        "sound.mp4": "holds only sound",
        "text.mp4": "damaged, cut off or no film",
        "empty.mp4": "damaged, cut off or no film",
        "cut.mp4": "damaged, cut off or no film",
        "old.avi": "its codec is not known here",
        "absent.mp4": "there is no such file",
    }.items():
        assert colorize(tmp_path / name, "--output", tmp_path / "out.mp4") == 1
        said = capsys.readouterr().err
        assert words in said and name in said and "Traceback" not in said
        assert not (tmp_path / "out.mp4").exists() and not parts_of(tmp_path / "out.mp4").exists()
    film = tmp_path / "whole.mp4"
    assert colorize(film, "--output", tmp_path / "out.jpg") == 2
    assert ".webm" in capsys.readouterr().err
    assert colorize(film, "--output", tmp_path / "out.mp4", "--profile", "p3") == 2


def test_a_film_that_is_cut_off_is_kept_as_far_as_it_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(filming, "SEGMENT", 10)
    film = make_film(tmp_path / "film.mkv", 100)
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    output = tmp_path / "out.mkv"
    assert colorize(film, "--output", output) == 1
    assert "cut off at" in capsys.readouterr().err
    assert not output.exists() and parts_of(output).exists()
    assert colorize(film, "--output", output, "--salvage") == 0
    assert 20 < len(pictures_of(output)) < 80


def test_a_recording_may_begin_anywhere(tmp_path):
    film = make_film(tmp_path / "film.mts", 60, container="mpegts", gop=20)
    content = film.read_bytes()
    film.write_bytes(content[188 * (len(content) // 188 // 4) :])
    assert colorize(film, "--output", tmp_path / "out.mp4") == 0
    assert 20 <= len(pictures_of(tmp_path / "out.mp4")) < 60


def test_without_the_extra_films_are_refused(tmp_path, monkeypatch, capsys):
    film, missing = make_film(tmp_path / "film.mp4", 2), {"av"}
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    assert colorize(film, "--output", tmp_path / "out.mp4") == 1
    assert "pip install 'colorhub[video]'" in capsys.readouterr().err
    missing.add("cv2")
    missing.discard("av")
    assert colorize(film, "--output", tmp_path / "out.mp4", "--smooth") == 1
    assert "pip install 'colorhub[video]'" in capsys.readouterr().err


def test_folders_hold_photos_and_films_and_one_bad_does_not_stop_the_rest(tmp_path, capsys):
    album, out = tmp_path / "album", tmp_path / "out"
    album.mkdir()
    make_photo().save(album / "a.png")
    make_film(album / "b.mp4", 3)
    make_film(album / "d.avi", 3, codec="mpeg4")
    (album / "c.mp4").write_text("no film")
    assert colorize(album, "--output", out) == 1
    names = {path.name for path in out.iterdir()}
    assert names == {"a.png", "b.mp4", "d.mp4", "colorhub-report.jsonl"}
    assert "1 of 4 photos and films failed" in capsys.readouterr().err
    assert colorize(album, "--output", out) == 1
    assert "3 photos and films were done before" in capsys.readouterr().err


class Drift(nn.Module):
    """A network of films whose colours are those of the place in the window."""

    @dataclass(frozen=True)
    class Config:
        resolution: int = 32
        frames: int = 8
        ab_gain: float = 100.0

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.scale = nn.Parameter(torch.full((1,), 0.05))

    def forward(self, frames):
        assert frames.shape[:3] == (1, 8, 1)
        place = torch.arange(8.0).view(1, 8, 1, 1, 1)
        return (self.scale * place).expand(1, 8, 2, *frames.shape[3:])


@pytest.fixture
def drift(tmp_path, monkeypatch):
    monkeypatch.setitem(generators.KINDS["video"], "Drift", Drift)
    monkeypatch.setitem(generators.EVERY, "Drift", Drift)
    weights.save(Drift(Drift.Config()), tmp_path / "variants" / "drift")


def test_a_variant_of_films_sees_windows_that_never_cross_a_cut(
    drift, tmp_path, monkeypatch, capsys
):
    cut = [*moving(11), *(255 - each // 4 for each in moving(9, seed=3, speed=-1))]
    film, output = make_film(tmp_path / "film.mp4", cut), tmp_path / "out.mp4"
    assert colorize(film, "--output", output, variant="drift") == 0
    tint = [chroma(each[None]) for each in pictures_of(output)]
    assert tint[0] < 3 and tint[11] < 3  # where a scene begins, the window does
    assert tint[5] > 8 and tint[16] > 8
    monkeypatch.setattr(filming, "SEGMENT", 4)
    again = tmp_path / "again.mp4"
    colorizer = filming.load(filming.hub.resolve("drift"))
    work = filming.Filming(colorizer, filming.Settings())
    for frames in (7, 6, 30):
        events = work.color(Job(film, again))
        for _, _event in zip(range(frames), events, strict=False):
            pass
        events.close()
    other = pictures_of(again)
    assert times_of(again) == times_of(film)
    assert np.abs(other.astype(int) - pictures_of(output)).mean() < 3  # other key frames
    make_photo().save(tmp_path / "a.png")
    assert colorize(tmp_path / "a.png", "--output", tmp_path / "b.png", variant="drift") == 1
    assert "drift colours films" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_memory_does_not_grow_with_the_length(tmp_path):
    film = make_film(tmp_path / "film.mp4", moving(160, (640, 480)))
    colorizer = filming.load(filming.hub.resolve("tiny"))
    work = filming.Filming(colorizer, filming.Settings())
    megabytes = []
    for _ in work.color(Job(film, tmp_path / "out.mp4")):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert len(megabytes) == 161
    assert megabytes[-1] < megabytes[60] + 45  # 100 frames more would be 92 MB


def test_a_variant_of_photos_of_each_architecture_colours_films(tmp_path, tiny_generator):
    weights.save(tiny_generator, tmp_path / "variants" / "other")
    film = make_film(tmp_path / "film.mp4", 3)
    assert colorize(film, "--output", tmp_path / "out.mp4", "--smooth", variant="other") == 0
    assert chroma(pictures_of(tmp_path / "out.mp4")) > 2


def test_two_runs_do_not_colour_into_one_file(tmp_path, capsys):
    film, output = make_film(tmp_path / "film.mp4", 4), tmp_path / "out.mp4"
    colorizer = filming.load(filming.hub.resolve("tiny"))
    events = filming.Filming(colorizer, filming.Settings()).color(Job(film, output))
    next(events)
    assert colorize(film, "--output", output) == 1
    assert "Another run is at work" in capsys.readouterr().err
    events.close()
    shutil.rmtree(parts_of(output))
