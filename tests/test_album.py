"""Folders of photos, as they are coloured by the command line: whatever befalls them meanwhile."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import test_survival
import torch
from conftest import ROOT, make_generator, make_photo
from PIL import Image
from test_survival import PATIENCE, TWO, Family, fill, mount

from colorhub import Colorizer
from colorhub.album import Album, Settings
from colorhub.cli import main
from colorhub.journal import REPORT, Job

disk = test_survival.disk
linux = pytest.mark.skipif(sys.platform != "linux", reason="it forks, and reads /proc")
ENDINGS = "png", "jpg", "tif", "webp", "ppm"


@pytest.fixture
def album(tmp_path):
    """Ten photos of several formats and sizes, in two folders."""
    for i in range(10):
        folder = tmp_path / "album" / ("old" if i % 2 else "")
        folder.mkdir(parents=True, exist_ok=True)
        size = ((60, 44), (44, 60), (75, 50))[i % 3]
        make_photo(*size, seed=i).save(folder / f"{i}.{ENDINGS[i % 5]}")
    return tmp_path / "album"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def words(album, out, variant_folder):
    more = ("--variant", variant_folder, "--recursive", "--device", "cpu")
    return ["colorize", *map(str, (album, "--output", out, *more))]


def colorhub(words, *more):
    return main([str(word) for word in (*words, *more)])


def results(out):
    """Content by name, of all but reports; what is not whole has a hidden name."""
    return {name: (out / name).read_bytes() for name in times(out)}


def times(out):
    files = [path for path in out.rglob("*") if path.suffix != ".jsonl"]
    found = {}
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # it may just be getting its name
            if path.is_file():
                found[str(path.relative_to(out))] = path.stat().st_mtime_ns
    return found


def visible(out):
    """Times by name of what has its place."""
    return {name: time for name, time in times(out).items() if not Path(name).name.startswith(".")}


def lines(out):
    paths = sorted(out.glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_a_folder_is_coloured_once_and_the_report_says_how(words, album, out, capsys):
    assert colorhub(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(set(said)) == 10 and all(Path(each).exists() for each in said)
    assert set(results(out)) == {str(path.relative_to(album)) for path in album.rglob("*.*")}
    for line in lines(out):
        assert Path(line["input"]).exists() and (out / line["output"]).exists()
        assert line["seconds"] > 0 and line["warnings"] == []
    before = times(out)
    assert colorhub(words) == 0
    captured = capsys.readouterr()
    assert times(out) == before and len(lines(out)) == 10 and captured.out == ""
    assert "10 photos were done before" in captured.err
    assert colorhub(words, "--overwrite") == 0  # what would come out the same stays
    assert times(out) == before


def test_it_goes_on_from_another_folder_and_after_a_move(words, album, out, monkeypatch, capsys):
    assert colorhub(words) == 0
    before = times(out)
    monkeypatch.chdir(album.parent)
    relative = ["colorize", "album", "--output", "./out/", *words[4:]]
    assert colorhub(relative) == 0 and times(out) == before
    album.rename("moved")
    assert colorhub(["colorize", "moved", *relative[2:]]) == 0 and times(out) == before


def test_one_that_is_missing_leaves_the_others_as_they_are(words, out):
    assert colorhub(words) == 0
    before, content = times(out), results(out)
    (out / "0.png").unlink()
    assert colorhub(words) == 0
    after = times(out)
    assert {name for name in after if after[name] != before[name]} == {"0.png"}
    assert results(out) == content


def test_results_of_photos_that_changed_and_results_that_were_touched_are_kept_until_told(
    words, album, out, capsys
):
    assert colorhub(words) == 0
    for name, seed in {"0.png": 100, "4.ppm": 104}.items():
        make_photo(60, 44, seed=seed).save(album / name)
    Image.new("RGB", (60, 44)).save(out / "2.tif")
    before, stamps = results(out), times(out)
    assert colorhub(words) == 1
    assert results(out) == before
    said = capsys.readouterr().err
    assert said.count("made before the photo changed: give --overwrite") == 2
    assert "2.tif exists, and is not, or no longer, what an earlier run" in said
    assert "3 of 10 photos failed" in said
    assert colorhub(words, "--overwrite") == 0
    after = times(out)
    changed = {"0.png", "2.tif", "4.ppm"}
    assert {name for name in after if after[name] != stamps[name]} == changed
    assert all(results(out)[name] != before[name] for name in changed)
    assert colorhub(words) == 0 and times(out) == after


@pytest.mark.parametrize(
    ("more", "named"),
    [(("--strength", "0.5"), "strength (1.0)"), (("--seed", "3", "--note"), "seed (0), note")],
)
def test_results_by_other_settings_are_kept_until_told_otherwise(words, out, more, named, capsys):
    assert colorhub(words) == 0
    before = results(out)
    assert colorhub(words, *more) == 1
    said = capsys.readouterr().err
    assert said.count(f"made with another {named}") == 10 and said.count("--overwrite") == 10
    assert results(out) == before
    assert colorhub(words, *more, "--overwrite") == 0
    changed = results(out)
    assert not set(changed.values()) & set(before.values())
    stamps = times(out)
    assert colorhub(words, *more) == 0 and times(out) == stamps
    assert colorhub(words) == 1 and results(out) == changed


def test_results_by_another_revision_are_kept_until_told_otherwise(words, out, capsys):
    from colorhub import weights

    assert colorhub(words) == 0
    before = results(out)
    network = make_generator()
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    weights.save(network, words[words.index("--variant") + 1], mean_ab=(1.5, 7.25))
    assert colorhub(words) == 1
    assert "made with another variant" in capsys.readouterr().err and results(out) == before


def test_results_of_another_photo_of_the_name_are_kept(words, album, out, tmp_path):
    assert colorhub(words) == 0
    before = results(out)
    (tmp_path / "other").mkdir()
    make_photo(seed=99).save(tmp_path / "other" / "0.png")
    assert colorhub(["colorize", str(tmp_path / "other"), *words[2:]], "--overwrite") == 0
    after = results(out)
    assert set(after) - set(before) == {"0-2.png"} and after.items() > before.items()


def test_originals_stay_whatever_the_options(words, album, capsys):
    before = results(album)
    assert colorhub(words, "--report", album / "0.png") == 2
    assert "a photo's name" in capsys.readouterr().err
    for output in (album, album / "old" / "..", album.parent / "link"):
        if output.name == "link":
            output.symlink_to(album)
        assert colorhub([*words[:2], "--output", output, *words[4:]], "--overwrite") == 2
    photo = str(album / "0.png")
    assert colorhub(["colorize", photo, "--output", photo, *words[4:]], "--overwrite") == 2
    assert capsys.readouterr().err.count("never replaced") == 4
    assert results(album) == before


def test_what_cannot_be_read_is_named_and_the_rest_done(words, album, out, capsys):
    (album / "broken.jpg").write_bytes(b"no photo")
    (album / "cut.jpg").write_bytes((album / "old" / "1.jpg").read_bytes()[:400])
    (album / "empty.png").touch()
    (album / "gone.jpg").symlink_to(album / "absent.jpg")
    (album / "ring.jpg").symlink_to(album / "ring.jpg")
    missing = album / "missing.jpg"
    assert colorhub([*words[:2], str(missing), *words[2:]]) == 1
    assert len(results(out)) == 10
    said = capsys.readouterr().err
    names = ("broken.jpg", "cut.jpg", "empty.png", "gone.jpg", "ring.jpg", "missing.jpg")
    for name in names:
        assert f"colorhub: {album / name}" in said
    assert "6 of 16 photos failed" in said and "Traceback" not in said
    told = {Path(line["input"]).name: line["error"] for line in lines(out) if "error" in line}
    assert set(told) == set(names)
    before = times(out)
    assert colorhub(words) == 1 and times(out) == before


def test_a_photo_that_vanishes_meanwhile_is_named(words, album, out, monkeypatch, capsys):
    real = Album._read

    def read(self, job):
        if job.photo.name == "4.ppm":
            job.photo.unlink()
        return real(self, job)

    monkeypatch.setattr(Album, "_read", read)
    assert colorhub(words) == 1
    assert "4.ppm: No such file" in capsys.readouterr().err and len(results(out)) == 9


def test_a_log_has_lines_of_pace_and_time_left(words, monkeypatch, capsys):
    monkeypatch.setattr("colorhub.progress.Progress.EVERY", 0.0)
    assert colorhub(words) == 0
    said = capsys.readouterr().err
    assert "colorhub: 5 of 10 photos, " in said and "photos/s, " in said and "left." in said
    assert "\r" not in said


def test_a_disk_without_room_fails_photo_by_photo_and_nothing_is_half(
    words, album, disk, out, capsys
):
    assert colorhub(words) == 0
    whole = results(out)
    target = disk / "out"
    words[words.index("--output") + 1] = str(target)
    assert not mount(disk, "-o", "remount,size=40k")
    assert colorhub(words) == 1
    some = results(target)
    assert 0 < len(some) < 10 and some.items() <= whole.items()
    fill(disk)
    assert colorhub(words) == 1
    said = capsys.readouterr().err
    assert "No space left" in said and "Traceback" not in said
    assert not mount(disk, "-o", "remount,size=4m")
    assert colorhub(words) == 0
    assert results(target) == whole and len(lines(target)) >= 10
    (target / "0.png").unlink()
    assert not mount(disk, "-o", "remount,ro")
    capsys.readouterr()
    assert colorhub(words) == 1
    said = capsys.readouterr().err
    assert f"{REPORT} cannot be written (Read-only file system)" in said


SERVER = """
import json, os, signal, sys
import colorhub.album, colorhub.cli  # what takes long to start

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if the tests run behind a shell

for line in sys.stdin:
    words, stdout, stderr = json.loads(line)
    if not (child := os.fork()):
        for number, path in ((1, stdout), (2, stderr)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        sys.exit(colorhub.cli.main(words))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def server():
    """Starts commands in processes of their own, at once."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        text=True,
        bufsize=1,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield process
        process.stdin.close()


@contextlib.contextmanager
def started(server, words, *, stdout, stderr):
    """(process id, function that waits for its status)"""
    server.stdin.write(json.dumps([words, str(stdout), str(stderr)]) + "\n")
    pid, status = int(server.stdout.readline()), []

    def wait():
        if not status:
            status.append(int(server.stdout.readline()))
        return status[0]

    try:
        yield pid, wait
    finally:
        if not status:
            os.kill(pid, signal.SIGKILL)
            wait()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@linux
@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_a_folder_killed_again_and_again_ends_as_an_undisturbed_one(
    kills, words, album, out, server, tmp_path
):
    seed = random.randrange(2**32)
    print("random seed", seed)
    moment, said = random.Random(seed), tmp_path / "said"
    for i in range(10, 40):
        size = (1200, 900) if i % 5 == 4 else (60 + i, 44)  # some that take a while to write
        make_photo(*size, seed=i).save(album / f"{i}.{ENDINGS[i % 5]}")
    undisturbed, quiet = tmp_path / "undisturbed", {"stdout": tmp_path / "told", "stderr": said}
    other = [*words[:2], "--output", str(undisturbed), *words[4:]]
    with started(server, other, **quiet) as (_, wait):
        assert wait() == 0, said.read_text()
    whole, killed, seen = results(undisturbed), 0, {}
    while killed < kills:
        goal = moment.randint(len(seen), 39)
        with started(server, words, **quiet) as (pid, wait):
            while alive(pid) and len(times(out)) < goal:  # as a file begins, or gets its name
                time.sleep(0.0005)
            starting = len(seen) >= goal
            time.sleep(moment.choice((0.003, 0.05)) * moment.random() + 0.5 * starting)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            status = wait()
        assert status in (0, -signal.SIGKILL), said.read_text()
        killed += status != 0
        there = visible(out)
        assert {name: results(out)[name] for name in there}.items() <= whole.items()
        assert seen.items() <= there.items()  # what is done is not done again
        if len(there) > 30:  # nearly done: kills in the middle tell more
            for name in moment.sample(sorted(there), 25):
                (out / name).unlink()
        seen = visible(out)
    with started(server, words, **quiet) as (_, wait):
        assert wait() == 0, said.read_text()
    assert results(out) == whole  # nothing is left over, either
    assert seen.items() <= times(out).items()
    assert "Traceback" not in said.read_text()


@linux
def test_a_stop_from_the_keyboard_leaves_what_is_whole(words, album, out, server, tmp_path, capsys):
    for i in range(10, 150):
        make_photo(seed=i).save(album / f"{i}.png")
    told, said = tmp_path / "told", tmp_path / "said"
    with started(server, words, stdout=told, stderr=said) as (pid, wait):
        deadline = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().count("\n") > 2):
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.005)
        os.kill(pid, signal.SIGINT)
        assert wait() == 130
    assert "stopped" in said.read_text() and "Traceback" not in said.read_text()
    some = results(out)
    assert 2 < len(some) < 150 and not any(Path(name).name.startswith(".") for name in some)
    before = times(out)
    assert colorhub(words) == 0
    assert len(results(out)) == 150 and before.items() <= times(out).items()


@linux
@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_goes_does_not_stop_the_work(both, words, album, out, server, tmp_path):
    (album / "notes.txt").touch()  # said before there is anything else to read
    pipe, said = tmp_path / "pipe", tmp_path / "said"
    os.mkfifo(pipe)

    def head():
        with pipe.open() as file:
            file.readline()

    reader = threading.Thread(target=head)
    reader.start()
    with started(server, words, stdout=pipe, stderr=pipe if both else said) as (_, wait):
        assert wait() == 0
    reader.join()
    assert len(results(out)) == 10
    assert both or "Traceback" not in said.read_text()


@linux
def test_a_full_disk_under_the_listing_does_not_stop_the_work(words, out, server, tmp_path):
    with started(server, words, stdout="/dev/full", stderr=tmp_path / "said") as (_, wait):
        assert wait() == 0
    assert len(results(out)) == 10 and "Traceback" not in (tmp_path / "said").read_text()


@linux
def test_processes_share_the_photos_and_any_number_goes_on(words, album, out, tmp_path, capsys):
    (album / "broken.jpg").write_bytes(b"no photo")
    alone = tmp_path / "alone"
    assert colorhub([*words[:2], "--output", alone, *words[4:]]) == 1
    hidden = [album / "0.png", album / "old" / "1.jpg"]
    for path in hidden:
        path.rename(tmp_path / path.name)
    command = [sys.executable, *TWO, "-m", "colorhub", *words]
    with Family(command, stderr=tmp_path / "said") as family:
        assert family.status() == 1
        said = family.said()
    assert said.count("1 of 9 photos failed") == said.count("broken.jpg is not a photo") == 1
    assert {path.name for path in out.glob("*.jsonl")} == {REPORT, "colorhub-report-1.jsonl"}
    done = sorted(line["output"] for line in lines(out))
    assert len(done) == len(set(done)) == 9
    for path in hidden:
        (tmp_path / path.name).rename(path)
    (album / "broken.jpg").unlink()
    before = times(out)
    capsys.readouterr()
    assert colorhub(words) == 0
    assert "8 photos were done before" in capsys.readouterr().err
    assert before.items() <= times(out).items() and results(out) == results(alone)


@pytest.fixture
def without_privileges():
    """What makes a command of root's meet the permissions that others meet."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root needs setpriv to be without its privileges")
    drop = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"]


@linux
def test_what_permissions_forbid_is_named_and_the_rest_done(words, album, out, without_privileges):
    def run(output):
        command = [*without_privileges, sys.executable, "-m", "colorhub", *words]
        command[command.index("--output") + 1] = str(output)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    for path in (album / "0.png", album / "old"):
        path.chmod(0)
    try:
        status, said = run(out)
        assert status == 1 and len(results(out)) == 4
        assert f"{album / '0.png'}: Permission denied" in said
        assert f"{album / 'old'}: this folder cannot be read (Permission denied)" in said
        assert "2 of 6 photos failed" in said
        status, said = run(album / "old" / "out")
        assert status == 1 and "cannot be written (Permission denied)" in said
    finally:
        (album / "old").chmod(0o755)


@linux
@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_its_photos_are_done_later(
    words, album, out, tmp_path
):
    for i in range(10, 300):
        make_photo(seed=i).save(album / f"{i}.png")
    command = [sys.executable, *TWO, "-m", "colorhub", *words]
    with Family(command, stderr=tmp_path / "said") as family:
        family.wait_for(lambda: out.exists() and len(results(out)) > 20)
        os.kill(random.choice(family.workers()), signal.SIGKILL)
        assert family.status() == 1
    before = visible(out)
    assert 20 < len(before) < 300
    with Family(command, stderr=tmp_path / "said") as family:
        assert family.status() == 0, family.said()
    assert len(results(out)) == 300 and before.items() <= times(out).items()


@linux
@pytest.mark.slow
def test_accelerate_launches_it(words, out, tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "-m", "colorhub"]
    with Family([*command, *words], stderr=tmp_path / "said") as family:
        assert family.status() == 0, family.said()
    assert len(results(out)) == 10


@pytest.fixture
def colorizer():
    return Colorizer(make_generator(), device="cpu")


def flow(colorizer, jobs, **more):
    return list(Album(colorizer, Settings(), **more).color(jobs))


def jobs_of(folder, out, sizes):
    folder.mkdir()
    for i, size in enumerate(sizes):
        make_photo(*size, seed=i).save(folder / f"{i:03}.png")
    return [Job(path, out / path.name) for path in sorted(folder.iterdir())]


def test_batches_hold_one_shape_each_and_fill_in_spite_of_odd_ones(
    colorizer, tmp_path, out, monkeypatch
):
    """Two shapes of many photos between twelve of which there are one or two each."""
    odd = [(60 + 7 * (i % 8), 40) for i in range(12)]
    sizes = [odd.pop() if i % 5 == 4 else ((48, 40), (40, 48))[i % 2] for i in range(60)]
    jobs = jobs_of(tmp_path / "mixed", out, sizes)
    batches, call = [], Colorizer.__call__

    def counting(self, lightness, **more):
        batches.append(len(lightness))
        return call(self, lightness, **more)

    monkeypatch.setattr(Colorizer, "__call__", counting)
    outcomes = flow(colorizer, jobs, batch_size=4, workers=2)
    assert {outcome.job for outcome in outcomes} == set(jobs) and len(outcomes) == 60
    assert not any(outcome.error for outcome in outcomes)
    assert sum(batches) == 60 and max(batches) == 4
    assert batches.count(4) >= 9  # of twelve that could be
    for job, size in zip(jobs, sizes, strict=True):
        with Image.open(job.output) as picture:
            assert picture.size == size


def test_a_fault_of_the_network_stops_only_its_own_photo(colorizer, tmp_path, out, monkeypatch):
    jobs = jobs_of(tmp_path / "photos", out, [(48, 40)] * 9)
    Image.new("L", (48, 40)).save(jobs[5].photo)  # black
    call = Colorizer.__call__

    def failing(self, lightness, **more):
        if (lightness.amax(dim=(1, 2, 3)) <= -1).any():
            raise RuntimeError("no\n colours")
        return call(self, lightness, **more)

    monkeypatch.setattr(Colorizer, "__call__", failing)
    outcomes = flow(colorizer, jobs, batch_size=4)
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert failed.job == jobs[5] and "RuntimeError: no colours" in failed.error
    assert len(outcomes) == 9


@pytest.mark.parametrize("batch_size", [1, 4])
def test_photos_in_memory_are_bounded_and_come_in_order(
    batch_size, colorizer, tmp_path, out, monkeypatch
):
    sizes = [(48, 40)] * 40 if batch_size == 1 else [(48 + i, 40) for i in range(40)]
    jobs = jobs_of(tmp_path / "photos", out, sizes)
    held, most, lock = set(), [], threading.Lock()
    reading, writing = Album._read, Album._write

    def read(self, job):
        with lock:
            held.add(job.photo)
            most.append(len(held))
        return reading(self, job)

    def write(self, photo, *more):
        time.sleep(0.01)  # the network is ahead
        with lock:
            held.remove(photo.job.photo)
        return writing(self, photo, *more)

    monkeypatch.setattr(Album, "_read", read)
    monkeypatch.setattr(Album, "_write", write)
    outcomes = flow(colorizer, jobs, batch_size=batch_size, workers=2)
    assert len(outcomes) == 40 and not any(outcome.error for outcome in outcomes)
    assert max(most) <= 3 * batch_size + 2 * 2
    if batch_size == 1:
        assert [outcome.job for outcome in outcomes] == jobs


def test_an_album_that_is_left_early_stops(colorizer, tmp_path, out):
    jobs = jobs_of(tmp_path / "photos", out, [(48, 40)] * 30)
    threads = torch.get_num_threads()
    outcomes = Album(colorizer, Settings(), workers=2).color(jobs)
    next(outcomes)
    outcomes.close()
    assert 0 < len(results(out)) < 12
    assert torch.get_num_threads() == threads
    assert np.all([not name.startswith(".") for name in results(out)])


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path, variant_folder, capsys):
    os.mkfifo(tmp_path / "pipe.jpg")
    words = ["colorize", tmp_path / "pipe.jpg", "--output", tmp_path / "out.jpg"]
    assert colorhub(words, "--variant", variant_folder) == 1
    assert "is no file" in capsys.readouterr().err
