"""What the Hub on loopback is trusted with, shown with the client that everyone has."""

import hashlib
import inspect
import io
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_hf_file_metadata,
    snapshot_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

CARD = b"""---
library_name: colorhub
pipeline_tag: image-to-image
tags: [colorhub-variant, cwgan]
---
# A variant
"""
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture
def api(hub_server, monkeypatch):
    monkeypatch.setitem(hub_server.tokens, "owner-token", "owner")
    return HfApi(endpoint=hub_server.url, token="owner-token")


@pytest.fixture
def stranger(hub_server, monkeypatch):
    monkeypatch.setitem(hub_server.tokens, "stranger-token", "stranger")
    return HfApi(endpoint=hub_server.url, token="stranger-token")


@pytest.fixture
def anyone(hub_server):
    return HfApi(endpoint=hub_server.url, token=False)


def adding(**files):
    """Operations that add `config_json=b"..."` as config.json and so on."""
    return [CommitOperationAdd(name.replace("_", "."), data) for name, data in files.items()]


def publish(api, name="owner/cwgan", *, private=None, repo_type=None, **files):
    """A repository with these files; the id of the commit."""
    api.create_repo(name, private=private, repo_type=repo_type, exist_ok=True)
    files = files or {"README_md": CARD, "config_json": b"{}", "model_safetensors": WEIGHTS}
    return api.create_commit(name, adding(**files), commit_message="Add", repo_type=repo_type).oid


def served(hub_server, method, pattern):
    return [path for m, path in hub_server.requests if m == method and re.search(pattern, path)]


# Accounts and repositories


def test_a_token_says_who_one_is(api, hub_server):
    assert api.whoami()["name"] == "owner"
    with pytest.raises(HfHubHTTPError) as caught:
        api.whoami(token="no-such-token")
    assert caught.value.response.status_code == 401


def test_a_repository_is_created_once(api, hub_server):
    url = api.create_repo("owner/cwgan")
    assert (url, url.repo_id) == (f"{hub_server.url}/owner/cwgan", "owner/cwgan")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo("owner/cwgan")
    assert caught.value.response.status_code == 409
    assert api.create_repo("owner/cwgan", exist_ok=True) == url
    assert api.create_repo("owner/cwgan", repo_type="dataset").repo_type == "dataset"
    assert list(hub_server.repos) == [("model", "owner/cwgan"), ("dataset", "owner/cwgan")]


def test_a_deleted_repository_is_gone(api):
    api.create_repo("owner/cwgan")
    api.delete_repo("owner/cwgan")
    assert not api.repo_exists("owner/cwgan")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("owner/cwgan")


def test_nobody_writes_under_the_name_of_another(api, stranger, anyone):
    publish(api)
    for intruder, status in ((stranger, 403), (anyone, 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            intruder.create_commit("owner/cwgan", adding(a_txt=b"a"), commit_message="Intrude")
        assert caught.value.response.status_code == status
        with pytest.raises(HfHubHTTPError):
            intruder.create_repo("owner/mine")


def test_a_name_that_is_no_users_belongs_to_all_users(api, stranger):
    publish(api, "colorhub/cwgan", private=True)
    assert stranger.model_info("colorhub/cwgan").private


def test_a_private_repository_does_not_exist_for_others(api, stranger, anyone, tmp_path):
    publish(api, private=True)
    assert api.model_info("owner/cwgan").private
    assert [info.id for info in api.list_models()] == ["owner/cwgan"]
    for outsider in (stranger, anyone):
        assert not list(outsider.list_models())
        with pytest.raises(RepositoryNotFoundError):
            outsider.model_info("owner/cwgan")
        with pytest.raises(RepositoryNotFoundError):
            outsider.hf_hub_download("owner/cwgan", "config.json", cache_dir=tmp_path)
    api.update_repo_settings("owner/cwgan", private=False)
    assert anyone.model_info("owner/cwgan").private is False


# Files in


def test_large_and_small_files_come_in_one_commit(api, hub_server):
    oid = publish(api)
    repo = hub_server.repos["model", "owner/cwgan"]
    assert repo.branches == {"main": oid}
    assert repo.files["model.safetensors"] == WEIGHTS
    assert repo.files["config.json"] == b"{}"
    assert list(hub_server.storage) == [hashlib.sha256(WEIGHTS).hexdigest()]
    files = {f.path: f for f in api.list_repo_tree("owner/cwgan", recursive=True)}
    assert files["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert files["model.safetensors"].size == len(WEIGHTS)
    assert files["config.json"].lfs is None
    titles = [commit.title for commit in api.list_repo_commits("owner/cwgan")]
    assert titles == ["Add", "initial commit"]


def test_files_that_have_not_changed_make_no_commit(api, hub_server):
    oid = publish(api)
    hub_server.requests.clear()
    assert publish(api) == oid
    assert len(hub_server.repos["model", "owner/cwgan"].commits) == 2
    assert not served(hub_server, "PUT", "/lfs/")


def test_files_and_folders_can_be_deleted(api):
    api.create_repo("owner/cwgan")
    paths = ("a.txt", "samples/1.txt", "samples/deep/2.txt", "samples-too.txt")
    operations = [CommitOperationAdd(path, b"text") for path in paths]
    api.create_commit("owner/cwgan", operations, commit_message="Add")
    here = {entry.path for entry in api.list_repo_tree("owner/cwgan")}
    assert here == {".gitattributes", "a.txt", "samples", "samples-too.txt"}
    inside = {entry.path for entry in api.list_repo_tree("owner/cwgan", "samples")}
    assert inside == {"samples/1.txt", "samples/deep"}
    known = api.get_paths_info("owner/cwgan", ["a.txt", "samples", "missing.txt"])
    assert [entry.path for entry in known] == ["a.txt", "samples"]
    doomed = [CommitOperationDelete("a.txt"), CommitOperationDelete("samples/")]
    api.create_commit("owner/cwgan", doomed, commit_message="Delete")
    assert api.list_repo_files("owner/cwgan") == [".gitattributes", "samples-too.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit("owner/cwgan", doomed, commit_message="Delete again")


def test_a_card_whose_metadata_cannot_be_read_is_refused(api):
    with pytest.raises(ValueError, match="metadata"):
        publish(api, README_md=b"---\ntags: [unclosed\n---\n")


def test_a_card_without_metadata_is_warned_of(api):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        publish(api, README_md=b"# A variant\n")


def test_a_commit_onto_what_is_no_longer_the_head_is_refused(api, hub_server):
    first = publish(api, config_json=b"first")
    second = publish(api, config_json=b"second")
    change = {"operations": adding(config_json=b"third"), "commit_message": "Third"}
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit("owner/cwgan", parent_commit=first, **change)
    assert caught.value.response.status_code == 412
    assert hub_server.repos["model", "owner/cwgan"].files["config.json"] == b"second"
    api.create_commit("owner/cwgan", parent_commit=second, **change)
    assert hub_server.repos["model", "owner/cwgan"].files["config.json"] == b"third"


# Tags, branches, lists


def test_a_tag_keeps_a_revision(api, hub_server, tmp_path):
    publish(api, config_json=b"old")
    api.create_tag("owner/cwgan", tag="epoch-20")
    publish(api, config_json=b"new")
    for revision, content in (("epoch-20", b"old"), ("main", b"new"), (None, b"new")):
        path = api.hf_hub_download(
            "owner/cwgan", "config.json", revision=revision, cache_dir=tmp_path
        )
        assert Path(path).read_bytes() == content
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs("owner/cwgan").tags}
    assert tags == hub_server.repos["model", "owner/cwgan"].tags
    assert api.model_info("owner/cwgan", revision="epoch-20").sha == tags["epoch-20"]
    assert api.model_info("owner/cwgan", revision=tags["epoch-20"][:8]).sha == tags["epoch-20"]


def test_a_tag_is_made_once_and_can_be_deleted(api):
    publish(api)
    api.create_tag("owner/cwgan", tag="epoch-20")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag("owner/cwgan", tag="epoch-20")
    assert caught.value.response.status_code == 409
    api.create_tag("owner/cwgan", tag="epoch-20", exist_ok=True)
    api.delete_tag("owner/cwgan", tag="epoch-20")
    assert not api.list_repo_refs("owner/cwgan").tags
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag("owner/cwgan", tag="epoch-20")


def test_a_branch_goes_its_own_way_even_with_a_slash_in_its_name(api, hub_server):
    publish(api, config_json=b"main")
    api.create_branch("owner/cwgan", branch="exp/two")
    api.create_commit(
        "owner/cwgan", adding(config_json=b"branch"), commit_message="x", revision="exp/two"
    )
    assert hub_server.repos["model", "owner/cwgan"].files["config.json"] == b"main"
    assert api.file_exists("owner/cwgan", "config.json", revision="exp/two")
    names = {branch.name for branch in api.list_repo_refs("owner/cwgan").branches}
    assert names == {"main", "exp/two"}
    api.delete_branch("owner/cwgan", branch="exp/two")
    assert not api.revision_exists("owner/cwgan", "exp/two")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["owner/cwgan", "owner/bare", "colorhub/fusion"]),
        ({"filter": "colorhub-variant"}, ["owner/cwgan", "colorhub/fusion"]),
        ({"filter": ["colorhub-variant", "cwgan"]}, ["owner/cwgan", "colorhub/fusion"]),
        ({"filter": "colorhub"}, ["owner/cwgan", "colorhub/fusion"]),
        ({"filter": "colorhub", "author": "owner"}, ["owner/cwgan"]),
        ({"pipeline_tag": "image-to-image", "limit": 1}, ["owner/cwgan"]),
        ({"search": "BAR"}, ["owner/bare"]),
        ({"author": "nobody"}, []),
    ],
    ids=str,
)
def test_models_are_listed_by_what_their_cards_say(api, wanted, found):
    publish(api)
    publish(api, "owner/bare", config_json=b"{}")
    publish(api, "colorhub/fusion")
    publish(api, "owner/photos", repo_type="dataset")
    assert [info.id for info in api.list_models(**wanted)] == found


def test_a_list_of_models_is_brief_unless_asked_for_more(api):
    oid = publish(api)
    (brief,) = api.list_models()
    (full,) = api.list_models(full=True, cardData=True)
    assert (brief.sha, brief.card_data) == (None, None)
    assert (full.sha, full.card_data.library_name) == (oid, "colorhub")
    assert brief.library_name == full.library_name == "colorhub"
    assert "config.json" in [sibling.rfilename for sibling in full.siblings]


# Files out


def test_what_went_up_comes_down(api, tmp_path, hub_server):
    oid = publish(api)
    folder = Path(snapshot_download("owner/cwgan", cache_dir=tmp_path, endpoint=hub_server.url))
    assert folder.name == oid
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "README.md").read_bytes() == CARD
    assert served(hub_server, "GET", "model.safetensors")
    api.verify_repo_checksums("owner/cwgan", cache_dir=tmp_path)


def test_a_file_spoiled_in_storage_is_noticed_by_its_hash_alone(api, hub_server, tmp_path):
    publish(api)
    (oid,) = hub_server.storage
    hub_server.storage[oid] = bytes(len(WEIGHTS))
    path = api.hf_hub_download("owner/cwgan", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == bytes(len(WEIGHTS))
    check = api.verify_repo_checksums("owner/cwgan", cache_dir=tmp_path)
    assert [mismatch["path"] for mismatch in check.mismatches] == ["model.safetensors"]


def test_a_large_file_lies_at_another_origin_under_its_hash(api, hub_server):
    oid = publish(api)
    prefix = f"{hub_server.url}/owner/cwgan/resolve/main"
    large = get_hf_file_metadata(f"{prefix}/model.safetensors")
    assert large.location.startswith(hub_server.storage_url)
    assert (large.commit_hash, large.size) == (oid, len(WEIGHTS))
    assert large.etag == hashlib.sha256(WEIGHTS).hexdigest()
    small = get_hf_file_metadata(f"{prefix}/README.md")
    assert small.location.startswith(hub_server.url)
    assert (small.commit_hash, small.size) == (oid, len(CARD))


def test_what_does_not_exist_is_named_for_what_it_is(api, tmp_path):
    publish(api)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("owner/missing")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("owner/cwgan")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("owner/cwgan", revision="epoch-99")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("owner/cwgan", "config.json", revision="no", cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("owner/cwgan", "missing.json", cache_dir=tmp_path)
    assert not api.file_exists("owner/cwgan", "missing.json")


def test_a_dataset_of_parquet_files_streams(api):
    datasets = pytest.importorskip("datasets")
    api.create_repo("owner/photos", repo_type="dataset", private=True)
    for split, captions in (("train", ["a", "b"]), ("test", ["c"])):
        file = io.BytesIO()
        datasets.Dataset.from_dict({"caption": captions}).to_parquet(file)
        api.upload_file(
            path_or_fileobj=file.getvalue(),
            path_in_repo=f"data/{split}-00000-of-00001.parquet",
            repo_id="owner/photos",
            repo_type="dataset",
        )
    stream = datasets.load_dataset(
        "owner/photos", split="train", streaming=True, token="owner-token"
    )
    assert [row["caption"] for row in stream] == ["a", "b"]


# Things going wrong


def test_a_fault_lasts_as_many_requests_as_it_was_given(api, hub_server):
    publish(api)
    hub_server.fault(method="GET", path=r"/api/models/", status=503, times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError) as caught:
            api.model_info("owner/cwgan")
        assert caught.value.response.status_code == 503
    assert api.model_info("owner/cwgan").id == "owner/cwgan"


def test_a_fault_without_a_number_lasts_until_it_is_cleared(api, hub_server):
    publish(api)
    hub_server.fault(status=429)
    for _ in range(3):
        with pytest.raises(HfHubHTTPError):
            api.model_info("owner/cwgan")
    hub_server.clear_faults()
    assert api.model_info("owner/cwgan").id == "owner/cwgan"


def test_a_list_is_asked_for_again_after_a_failure(api, hub_server):
    publish(api)
    hub_server.fault(path="^/api/models$", status=503, times=1)
    assert [info.id for info in api.list_models()] == ["owner/cwgan"]
    assert len(served(hub_server, "GET", "^/api/models$")) == 2


def test_a_hub_that_hangs_can_be_waited_for_with_a_limit(api, hub_server):
    publish(api)
    hub_server.fault(path="/api/models/owner/cwgan", delay=30.0)
    start = time.monotonic()
    with pytest.raises(httpx.TimeoutException):
        api.model_info("owner/cwgan", timeout=0.2)
    assert time.monotonic() - start < 2


def test_a_hub_that_hangs_answers_in_the_end(api, hub_server):
    publish(api)
    hub_server.fault(path="/api/models/owner/cwgan", delay=0.3)
    start = time.monotonic()
    assert api.model_info("owner/cwgan").id == "owner/cwgan"
    assert time.monotonic() - start >= 0.3


def test_a_cached_file_is_had_while_the_hub_is_down_or_hangs(api, hub_server, tmp_path):
    publish(api)
    path = api.hf_hub_download("owner/cwgan", "model.safetensors", cache_dir=tmp_path)
    for fault in ({"status": 503}, {"delay": 30.0}):
        hub_server.fault(**fault)
        again = api.hf_hub_download(
            "owner/cwgan", "model.safetensors", cache_dir=tmp_path, etag_timeout=0.2
        )
        assert again == path
        hub_server.clear_faults()


@pytest.mark.parametrize("fault", [{"cut": True}, {"lost": True}, {"status": 500}], ids=str)
def test_an_interrupted_upload_of_a_large_file_is_taken_up_by_the_client(api, hub_server, fault):
    api.create_repo("owner/cwgan")
    hub_server.fault(method="PUT", path="/lfs/", times=1, **fault)
    publish(api)
    assert hub_server.repos["model", "owner/cwgan"].files["model.safetensors"] == WEIGHTS
    assert len(served(hub_server, "PUT", "/lfs/")) == 2


def test_content_that_is_not_what_was_announced_is_not_kept(hub_server):
    url = f"{hub_server.storage_url}/lfs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    request = urllib.request.Request(url, data=WEIGHTS[:-1], method="PUT")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    caught.value.close()
    assert caught.value.code == 400
    assert not hub_server.storage


def test_a_commit_that_was_cut_off_is_not_made_and_can_be_repeated(api, hub_server):
    api.create_repo("owner/cwgan")
    hub_server.fault(path="/commit/", cut=True, times=1)
    with pytest.raises(httpx.TransportError):
        publish(api)
    assert list(hub_server.repos["model", "owner/cwgan"].files) == [".gitattributes"]
    publish(api)
    assert hub_server.repos["model", "owner/cwgan"].files["model.safetensors"] == WEIGHTS
    assert len(served(hub_server, "PUT", "/lfs/")) == 1  # what had arrived stays


def test_a_commit_whose_answer_is_lost_was_made(api, hub_server):
    api.create_repo("owner/cwgan")
    hub_server.fault(path="/commit/", lost=True, times=1)
    with pytest.raises(httpx.TransportError):
        publish(api)
    assert hub_server.repos["model", "owner/cwgan"].files["model.safetensors"] == WEIGHTS
    assert publish(api) == api.model_info("owner/cwgan").sha
    assert len(hub_server.repos["model", "owner/cwgan"].commits) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "notes.txt"])
def test_a_download_that_broke_off_goes_on_where_it_was(api, hub_server, tmp_path, name):
    notes = b"A note. " * 5000
    publish(api, model_safetensors=WEIGHTS, notes_txt=notes)
    hub_server.fault(method="GET", path=name, cut=True, times=1)
    path = api.hf_hub_download("owner/cwgan", name, cache_dir=tmp_path)
    assert Path(path).read_bytes() == (WEIGHTS if name == "model.safetensors" else notes)
    assert len(served(hub_server, "GET", name)) == 2


# Outside the Hub


def test_a_plain_file_is_served_whole_and_in_parts(hub_server):
    hub_server.static["/files/photos.zip"] = WEIGHTS
    url = f"{hub_server.url}/files/photos.zip"
    for asked, status, expected in (
        (None, 200, WEIGHTS),
        ("bytes=10-19", 206, WEIGHTS[10:20]),
        ("bytes=10-", 206, WEIGHTS[10:]),
        ("bytes=-22", 206, WEIGHTS[-22:]),
        (f"bytes=10-{10**9}", 206, WEIGHTS[10:]),
    ):
        request = urllib.request.Request(url, headers={"Range": asked} if asked else {})
        with urllib.request.urlopen(request) as response:
            assert (response.status, response.read()) == (status, expected)
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as response:
        assert response.headers["Content-Length"] == str(len(WEIGHTS))
        assert response.headers["Accept-Ranges"] == "bytes"
    assert len(served(hub_server, "GET", "^/files/photos.zip$")) == 5


def test_a_file_is_read_out_of_an_archive_over_http(hub_server):
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as photos:
        photos.writestr("small.txt", "small")
        photos.writestr("large.bin", bytes(20_000_000))
    hub_server.static["/files/photos.zip"] = archive.getvalue()
    with fsspec.open(f"zip://small.txt::{hub_server.url}/files/photos.zip", "rt") as file:
        assert file.read() == "small"
    assert served(hub_server, "HEAD", "^/files/photos.zip$")
    assert served(hub_server, "GET", "^/files/photos.zip$")


def test_a_reset_forgets_everything_but_the_users(api, hub_server):
    publish(api)
    hub_server.static["/file"] = b""
    hub_server.fault(status=500)
    hub_server.reset()
    assert not hub_server.requests
    assert not list(api.list_models())
    assert not (hub_server.repos or hub_server.storage or hub_server.static)
    assert api.whoami()["name"] == "owner"


def test_it_stops_at_once_even_while_it_hangs_and_starts_again_where_it_was(hub_server):
    server = type(hub_server)()
    server.start()
    anyone, port = HfApi(endpoint=server.url, token=False), int(server.url.split(":")[-1])
    server.fault(path="/api/models", delay=30.0)
    with pytest.raises(httpx.TimeoutException):
        anyone.model_info("owner/cwgan", timeout=0.1)
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 2
    with pytest.raises(httpx.ConnectError):
        anyone.model_info("owner/cwgan")
    server.start(port)
    with pytest.raises(RepositoryNotFoundError):
        anyone.model_info("owner/cwgan")
    server.stop()


def test_it_serves_on_its_own(hub_server):
    program = inspect.getfile(type(hub_server))
    command = [sys.executable, program, "--token", "secret=someone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert HfApi(endpoint=url, token="secret").whoami()["name"] == "someone"
        process.terminate()
