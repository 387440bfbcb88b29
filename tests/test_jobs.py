"""Which photos are meant, what their results are called, and what the report knows of them."""

import json
import os
import shutil
import time

import pytest

from colorhub.errors import OptionError
from colorhub.files import sha256
from colorhub.jobs import jobs_for
from colorhub.journal import REPORT, Job, Report, fingerprint, place_of


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))


def names(inputs, output, *, report=None, said=None, recursive=True):
    """{photo's name: result's name}, below the folder they are in."""
    said = [] if said is None else said
    report = Report(output / REPORT) if report is None else report
    jobs = jobs_for(inputs, output, recursive=recursive, say=said.append, report=report)
    return {job.photo.name: str(job.output.relative_to(output)) for job in jobs}


def make(inputs, output):
    """What a run does with photos that can all be coloured, short of colouring them."""
    report = Report(output / REPORT)
    jobs = jobs_for(inputs, output, recursive=True, say=print, report=report)
    with report.writing():
        for job in jobs:
            if not job.output.exists():
                touch(job.output)
                report.tell(job, sha256=sha256(job.photo), **fingerprint(job.output))


@pytest.fixture
def album(tmp_path):
    return tmp_path / "album"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_tree_is_kept_in_the_order_of_names(album, out):
    touch(*(album / name for name in ("b.jpg", "a.png", "z/y.tif", "c/d/e.webp", "c/a.heic")))
    found = names([album], out)
    assert list(found.values()) == ["a.png", "b.jpg", "c/a.jpg", "c/d/e.webp", "z/y.tif"]
    assert list(names([album], out, recursive=False)) == ["a.png", "b.jpg"]


def test_names_that_are_taken_get_numbers_and_own_names_go_first(album, out):
    touch(*(album / name for name in ("a.HEIC", "a.JPG", "a.heic", "a.jpg", "a-2.jpg")))
    found = names([album], out)
    assert found["a.JPG"] == "a.JPG" and found["a-2.jpg"] == "a-2.jpg"
    assert len({name.lower() for name in found.values()}) == 5
    assert all(name.lower().endswith(".jpg") for name in found.values())


def test_many_photos_of_one_name_are_numbered_at_once(album, out):
    photos = [album / str(i) / "a.jpg" for i in range(3000)]
    start = time.perf_counter()
    jobs = jobs_for(photos, out, recursive=False, say=print)
    assert [job.output.name for job in jobs[:3]] == ["a.jpg", "a-2.jpg", "a-3.jpg"]
    assert len({job.output for job in jobs}) == 3000
    assert time.perf_counter() - start < 5


def test_accents_written_in_two_ways_are_one_name(album, out):
    touch(album / "caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg")
    touch(album / "cafe\N{COMBINING ACUTE ACCENT}.jpg")
    assert any(name.endswith("-2.jpg") for name in names([album], out).values())


def test_what_is_added_later_leaves_the_names_of_results_as_they_are(album, out):
    touch(*(album / name for name in ("b.heic", "b.heif", "c.JPG", "d.jpg", "d.JPG", "d.Jpg")))
    make([album], out)
    before = names([album], out)
    touch(*(album / name for name in ("a.jpg", "b.jpg", "b-2.jpg", "c.jpg", "C.jpg", "D.JPG")))
    after = names([album], out)
    assert after.items() >= before.items()
    assert len(set(after.values())) == len(after) == 12


def test_folders_coloured_one_after_the_other_share_an_output(tmp_path, out):
    first, second = tmp_path / "first", tmp_path / "second"
    touch(first / "a.jpg", second / "a.jpg")
    make([first], out)
    assert names([second], out) == {"a.jpg": "a-2.jpg"}
    make([second], out)
    assert names([first], out) == {"a.jpg": "a.jpg"}
    jobs = jobs_for([second, first], out, recursive=True, say=print, report=Report(out / REPORT))
    assert [job.output.name for job in jobs] == ["a-2.jpg", "a.jpg"]


def test_a_copy_or_a_moved_album_has_the_results_it_had(album, tmp_path, out, monkeypatch):
    touch(album / "a.jpg", album / "b.heic", album / "b.jpg")
    before = names([album], out)
    make([album], out)
    album.rename(tmp_path / "moved")
    assert names([tmp_path / "moved"], out) == before
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    assert names([tmp_path / "copied"], out) == before
    out.rename(tmp_path / "elsewhere")
    assert names([tmp_path / "moved"], tmp_path / "elsewhere") == before
    monkeypatch.chdir(tmp_path)
    report = Report(tmp_path / "elsewhere" / REPORT)
    assert report.of(tmp_path / "moved" / ".." / "elsewhere" / "b.jpg")


def test_a_photo_named_twice_is_coloured_once(album, out, monkeypatch):
    touch(album / "a.jpg", album / "old" / "b.jpg")
    monkeypatch.chdir(album)
    said = []
    inputs = [album, album / "a.jpg", album.relative_to(album) / "a.jpg", album / "old"]
    assert names(inputs, out, said=said) == {"a.jpg": "a.jpg", "b.jpg": "old/b.jpg"}
    assert any("3 photos are named more than once" in line for line in said)


def test_results_inside_of_the_album_are_no_photos(album):
    out = album / "colored"
    touch(album / "a.jpg", album / "sub" / "b.jpg")
    make([album], out)
    said = []
    assert set(names([album], out, said=said)) == {"a.jpg", "b.jpg"} and not said
    assert set(names([album], album / "second", said=said)) == {"a.jpg", "b.jpg"}
    assert said == [f"{out} is a folder of results: passed over."]


def test_results_beside_and_above_the_photos_are_no_photos(album):
    touch(album / "sub" / "a.jpg", album / "sub" / "sub" / "b.jpg")
    make([album / "sub"], album)  # b.jpg's lies where photos are looked for
    found = names([album / "sub"], album)
    assert found == {"a.jpg": "a.jpg", "b.jpg": "sub/b.jpg"}
    assert (album / "sub" / "b.jpg").exists()


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["album"], "album"),
        (["album"], "link"),
        (["album/a.jpg"], "album"),
        (["album/a.jpg"], "album/a.jpg"),
        (["album/a.jpg", "album/sub/b.jpg"], "album/sub/../"),
        (["link/a.jpg"], "album/a.jpg"),
        (["album/sub", "album/b.jpg"], "album"),  # sub/b.jpg's would be album/b.jpg
        (["album/sub"], "album"),  # which is not named, but may well be a photo
        (["album/a.heic"], "album"),  # whose would be album/a.jpg
    ],
)
def test_a_photo_is_never_a_result(inputs, output, album, tmp_path):
    touch(*(album / name for name in ("a.jpg", "a.heic", "b.jpg", "sub/b.jpg")))
    (tmp_path / "link").symlink_to(album)
    places = [tmp_path / each for each in inputs]
    with pytest.raises(OptionError, match="never replaced"):
        jobs_for(places, tmp_path / output, recursive=True, say=print)


def test_links_to_photos_are_followed_and_those_to_folders_named(album, out, tmp_path):
    touch(album / "a.jpg", tmp_path / "far" / "b.jpg")
    (album / "b.jpg").symlink_to(tmp_path / "far" / "b.jpg")
    (album / "ring").symlink_to(album)
    (album / "nothing.jpg").symlink_to(album / "absent.jpg")
    (album / "itself.jpg").symlink_to(album / "itself.jpg")
    said = []
    found = names([album], out, said=said)
    assert set(found) == {"a.jpg", "b.jpg", "nothing.jpg", "itself.jpg"}  # two will fail by name
    (line,) = said
    assert "ring is a link to a folder" in line


def test_what_is_hidden_or_no_file_is_passed_over(album, out):
    touch(album / "a.jpg", album / "._a.jpg", album / ".trash" / "b.jpg", album / "notes.txt")
    os.mkfifo(album / "pipe.jpg")
    (album / "folder.jpg").mkdir()
    said = []
    assert set(names([album], out, said=said)) == {"a.jpg"}
    (line,) = said
    assert "3 files passed over" in line


def test_a_folder_that_cannot_be_read_is_a_failure_of_its_own(album, out, monkeypatch):
    touch(album / "a.jpg", album / "closed" / "b.jpg", album / "z" / "c.jpg")
    scandir = os.scandir

    def forbidding(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    jobs = jobs_for([album], out, recursive=True, say=print)
    assert [job.photo.name for job in jobs] == ["a.jpg", "closed", "c.jpg"]
    assert [bool(job.error) for job in jobs] == [False, True, False]
    assert "closed: this folder cannot be read (Permission denied)" in jobs[1].error


def test_a_result_is_known_by_its_content_and_only_as_long_as_nobody_touches_it(out):
    report, job = Report(out / REPORT), Job(out.parent / "a.jpg", out / "a.jpg")
    touch(job.output)
    with report.writing():
        report.tell(job, sha256="old", **fingerprint(job.output))
        report.tell(job, sha256="new", output_bytes=9, output_mtime_ns=1, output_sha256="")
    report = Report(out / REPORT)
    assert report.of(job.output)["sha256"] == "old"  # the new one never came to be
    os.utime(job.output)
    assert report.of(job.output)["sha256"] == "old"
    job.output.write_text("X" * job.output.stat().st_size)
    assert report.of(job.output) is None


def test_a_damaged_report_loses_no_more_than_the_damaged_lines(out):
    path = out / REPORT
    job = Job(out.parent / "a.jpg", out / "a.jpg")
    other = Job(out.parent / "b.jpg", out / "b.jpg")
    touch(job.output, other.output)
    report = Report(path)
    with report.writing():
        report.tell(job, sha256="1", **fingerprint(job.output))
    whole = path.read_bytes()
    path.write_bytes(
        b'\0\xff[[[\n[]\n3\n{}\n{"input": 3}\n' + b"[" * 100_000 + b"\n" + whole + whole[:50]
    )
    report = Report(path)
    with report.writing():
        report.tell(other, sha256="2", **fingerprint(other.output))
    report = Report(path)
    assert report.of(job.output)["sha256"] == "1"
    assert report.of(other.output)["sha256"] == "2"


def test_reports_of_all_processes_are_read(out):
    jobs = [Job(out.parent / f"{i}.jpg", out / f"{i}.jpg") for i in range(3)]
    for i, job in enumerate(jobs):
        touch(job.output)
        report = Report(out / REPORT)
        with report.writing(i):
            report.tell(job, sha256=str(i), **fingerprint(job.output))
    report = Report(out / REPORT)
    assert [report.of(job.output)["sha256"] for job in jobs] == ["0", "1", "2"]
    assert report.result_of(jobs[2].photo) == place_of(jobs[2].output)
    lines = [json.loads(path.read_text()) for path in sorted(out.glob("*.jsonl"))]
    assert {line["output"] for line in lines} == {"0.jpg", "1.jpg", "2.jpg"}


def test_two_runs_do_not_write_into_one_folder(out):
    pytest.importorskip("fcntl")
    with (
        Report(out / REPORT).writing(),
        pytest.raises(OptionError, match="Another run"),
        Report(out / REPORT).writing(),
    ):
        pass
    with Report(out / REPORT).writing():
        pass


def test_ten_thousand_photos_are_listed_in_seconds(album, out):
    for folder in range(100):
        (album / str(folder)).mkdir(parents=True)
        for i in range(100):
            (album / str(folder) / f"{i}.jpg").touch()
    report = Report(out / REPORT)
    start = time.perf_counter()
    jobs = jobs_for([album], out, recursive=True, say=print, report=report)
    first = time.perf_counter() - start
    made = {"output_bytes": 1, "output_mtime_ns": 1, "output_sha256": "0" * 64}
    with report.writing():
        for job in jobs:
            report.tell(job, sha256="0" * 64, seconds=0.1, warnings=[], **made)
    start = time.perf_counter()
    report = Report(out / REPORT)
    again = jobs_for([album], out, recursive=True, say=print, report=report)
    print(f"listed in {first:.2f} s, with a report in {time.perf_counter() - start:.2f} s")
    assert again == jobs and len(jobs) == 10_000
    assert time.perf_counter() - start < 10
