"""What hostile visitors try: names, repositories, a Hub gone wrong, files of the machine."""

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import APP, ROOT, make_generator, make_photo, serving
from hub_server import HubServer
from huggingface_hub import HfApi, hf_hub_download

from colorhub import Colorizer, HubError, NotFoundError, OptionError, VariantError, weights
from colorhub import strangers as strangers_module
from colorhub.errors import ColorhubError
from colorhub.hub import card, list_variants, publish, resolve

TOKEN = "owner-token"


pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture
def tokens(monkeypatch):
    """The authorization of each request that reaches the Hub, by path; the host has a token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    seen: list[tuple[str, str | None]] = []
    admit = HubServer._admit

    def spy(self: HubServer, call: Any, path: str) -> None:
        seen.append((path, call.headers.get("authorization")))
        admit(self, call, path)

    monkeypatch.setattr(HubServer, "_admit", spy)
    return seen


def stranger(name: str) -> Any:
    """What the app does with a name that a visitor typed."""
    variant = resolve(name, folders=False, token=False)
    return weights.load(variant.folder)


def refused(name: str, words: str, error: type[ColorhubError] = ColorhubError) -> None:
    """The name is refused, in one short line that a visitor can read."""
    with pytest.raises(error, match=words) as refusal:
        stranger(name)
    said = str(refusal.value)
    assert "\n" not in said and "\0" not in said and len(said) < 600
    assert "Traceback" not in said


def put(name: str, files: dict[str, bytes], repo_id: str = "owner/tiny") -> None:
    api = HfApi(token=TOKEN)
    api.create_repo(repo_id, exist_ok=True)
    for path, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo_id)


def edit_config(folder: Path, **network: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["network"] |= network
    path.write_text(json.dumps(config))


def upload_config(folder: Path, content: str | None = None) -> None:
    data = (folder / "config.json").read_bytes() if content is None else content.encode()
    put("config", {"config.json": data})


# Names.

HOSTILE = [
    "", " ", ".", "..", "/", "//", "../..", "../../etc/passwd", "/etc", "/etc/passwd", "~",
    "~/secret", "owner/..", "../owner", "owner/../other", "a/b/c", "owner\\name", "C:\\variants",
    "http://127.0.0.1:1/x", "https://evil.example/x", "file:///etc/passwd", "//evil.example/x",
    "owner/name?revision=x", "owner/name#x", "owner/%2e%2e", "owner%2Fname", "owner/na me",
    "owner/name@", "@", "@x", "owner/name@../../x", "owner/name@/etc", "owner/name@a//b",
    "owner/name@a/../b", "owner/name@refs/pr/1", "owner/name@refs/convert/x", "owner/name@a b",
    "owner/name@a/", "owner/name@%2e%2e", "owner/name@a?b", "owner/name@a#b", "owner/name@a\nb",
    "owner/name\n", "owner/name\r\nX-Evil: 1", "owner/name\0", "\0", "owner/name@v1\0",
    "\u043ewner/name", "owner/n\u0430me", "owner\uff0fname", "owner/name@\uff561",
    "owner/\u202ename", "\uff41/\uff42",
    "$(id)/x", "owner/name;id", "{0}/x", "<script>/x", "owner/<b>",
    "a" * 100_000, "a/" + "b" * 100_000, "owner/name@" + "v" * 100_000, "../" * 1000,
    "datasets/owner/name", "owner/name.git", "owner/-name-", "owner/a--b",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:40])
def test_a_hostile_name_is_refused_before_anything_of_it_is_asked_for(
    name, hub_server, tmp_path, monkeypatch
):
    (tmp_path / "secret").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(name, ".", NotFoundError)
    paths = [path for _, path in hub_server.requests]
    assert all(path.startswith("/api/models/owner/") for path in paths)
    assert not any("/resolve/" in path or ".." in path for path in paths)
    assert not (tmp_path / "cache").exists()


def test_names_of_one_s_own_folders_are_only_for_oneself(variant_folder, monkeypatch):
    monkeypatch.chdir(variant_folder.parents[1])
    inside = f"{variant_folder.parent.name}/{variant_folder.name}"
    for name in (inside, str(variant_folder), f"./{inside}"):
        assert resolve(name).source == "local"
        refused(name, "[Tt]here is no", NotFoundError)


def test_what_others_propose_for_a_repository_is_not_the_owner_s(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", revision="v1", token=TOKEN)
    repo = hub_server.repos["model", "owner/tiny"]
    repo.branches["refs/pr/1"] = repo.branches["main"]
    assert resolve("owner/tiny@refs/pr/1").source == "hub"  # one's own decision
    refused("owner/tiny@refs/pr/1", "no revision 'refs/pr/1'", NotFoundError)
    for revision in ("v1", "main", repo.branches["main"], repo.branches["main"][:8]):
        assert stranger(f"owner/tiny@{revision}")


# What is in the repository.


def test_a_published_variant_passes(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    assert stranger("owner/tiny")
    hub_server.fault(path=".*", times=None, status=503)
    assert stranger("owner/tiny")  # as it was fetched


def test_every_bundled_variant_is_within_the_limits():
    for config in sorted((ROOT / "model_cards").glob("*/config.json")):
        strangers_module.check_folder(config.parent.name, config.parent)


@pytest.mark.parametrize(
    "front", ["tags: [colorhub-variant]", "library_name: diffusers", "library_name: [colorhub]"]
)
def test_another_library_s_repository_is_refused(variant_folder, hub_server, front):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    put("card", {"README.md": f"---\n{front}\n---\n# colorhub\n".encode()})
    refused("owner/tiny", "does not say `library_name: colorhub`", VariantError)
    assert not _fetched(hub_server)
    assert Colorizer.from_pretrained("owner/tiny", device="cpu")  # one's own decision


def _fetched(hub_server: HubServer) -> list[str]:
    return [path for _, path in hub_server.requests if "/resolve/" in path]


@pytest.mark.parametrize(
    "file, limit", [("model.safetensors", "WEIGHTS"), ("config.json", "CONFIG")]
)
def test_what_is_too_large_is_refused_before_it_is_fetched(
    variant_folder, hub_server, monkeypatch, file, limit
):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    size = (variant_folder / file).stat().st_size
    monkeypatch.setattr(strangers_module, f"MAX_{limit}", size - 1)
    refused("owner/tiny", rf"its {file} has \d+ kB; .* is the limit", VariantError)
    assert not _fetched(hub_server)
    monkeypatch.setattr(strangers_module, f"MAX_{limit}", size)
    assert stranger("owner/tiny")
    monkeypatch.setattr(strangers_module, f"MAX_{limit}", size - 1)
    hub_server.fault(path=".*", times=None, status=503)
    refused("owner/tiny", f"its {file} has", VariantError)  # nor is it taken from the cache


def test_the_limit_is_said_in_megabytes(variant_folder, hub_server, monkeypatch):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    info = HfApi().model_info("owner/tiny", files_metadata=True)
    for file in info.siblings or []:
        file.size = 700 * 10**6
    monkeypatch.setattr(strangers_module, "MAX_CONFIG", 10**9)
    with pytest.raises(VariantError, match=r"has 700 MB; 512 MB is the limit"):
        strangers_module.check_repository("owner/tiny", info)
    for file in info.siblings or []:
        file.size = None
    with pytest.raises(VariantError, match="does not say how large"):
        strangers_module.check_repository("owner/tiny", info)


def test_a_branch_that_moves_meanwhile_does_not_bring_what_was_not_looked_at(
    variant_folder, hub_server, monkeypatch
):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    check = strangers_module.check_repository

    def move(name: str, info: Any) -> None:
        check(name, info)
        put("other", {"config.json": b"x" * 100_000})

    monkeypatch.setattr(strangers_module, "check_repository", move)
    assert stranger("owner/tiny")


def test_a_full_disk_is_not_filled_further(variant_folder, hub_server, monkeypatch):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    refused("owner/tiny", "no room left here to fetch owner/tiny", OptionError)
    assert not _fetched(hub_server)
    monkeypatch.undo()


def test_a_pickle_is_never_fetched(hub_server, variant_folder):
    config = (variant_folder / "config.json").read_bytes()
    readme = b"---\nlibrary_name: colorhub\n---\n"
    pickle = b"cos\nsystem\n(S'touch hacked'\ntR."
    for name in ("pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"):
        files = {"README.md": readme, "config.json": config, name: pickle}
        repo_id = f"owner/{name.replace('.', '-')}"
        put("pickle", files, repo_id)
        refused(repo_id, "pickle", VariantError)
    put("disguise", {"README.md": readme, "config.json": config, "model.safetensors": pickle})
    refused("owner/tiny", "no safetensors file", VariantError)
    assert not any(path.endswith((".bin", ".pt", ".ckpt", ".pkl")) for path in _fetched(hub_server))
    assert not Path("hacked").exists()


def test_code_and_whatever_else_lies_there_is_never_fetched(variant_folder, hub_server, tmp_path):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    put("code", {"modeling.py": b"raise SystemExit", "training.json": b"{}", "x.bin": b"\0"})
    assert stranger("owner/tiny")
    fetched = {path.rpartition("/")[2] for path in _fetched(hub_server)}
    assert fetched == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "header", "empty", "noise"])
def test_damaged_weights_are_refused(variant_folder, hub_server, damage):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    content = bytearray((variant_folder / "model.safetensors").read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[-8] ^= 1
    elif damage == "header":
        content[:8] = b"\xff" * 8  # a header of 2^64 bytes
    else:
        content = bytearray() if damage == "empty" else bytearray(os.urandom(5000))
    put("damage", {"model.safetensors": bytes(content)})
    refused("owner/tiny", "truncated|corrupted|no safetensors", VariantError)


@pytest.mark.parametrize(
    "network, words",
    [
        ({"width": 10**9}, "its width is too much; 512"),
        ({"width": 600}, "its width is 600; 512"),
        ({"depth": 10**9}, "its depth is too much; 12"),
        ({"depth": 13}, "its depth is 13; 12"),
        ({"resolution": 100_000}, "its resolution is 100000; 512"),
        ({"resolution": -(10**400)}, "its resolution is too much"),
        ({"noise_dim": 10**8}, "its noise_dim is 100000000; 1024"),
        ({"ab_gain": 1e308}, "its ab_gain is 1e\\+308"),
        ({"ab_gain": float("nan")}, "its ab_gain is nan"),
        ({"ab_gain": float("inf")}, "its ab_gain is inf"),
        ({"width": 8}, "wrong shape|does not fit"),  # more than its weights have
        ({"width": "4"}, "expected int"),
        ({"width": None}, "expected int"),
        ({"width": [[4]]}, "expected int"),
        ({"width": True}, "expected int"),
        ({"activation": "__import__('os')"}, "activation"),
        ({"x" * 5000: 10**9}, "is too much"),
    ],
)  # fmt: skip
def test_a_hostile_configuration_costs_nothing(variant_folder, hub_server, network, words):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    edit_config(variant_folder, **network)
    upload_config(variant_folder)
    start = time.monotonic()
    refused("owner/tiny", words, VariantError)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", "{}", '{"format_version": 1}', '"x"', "[" * 50_000, '{"network": 3}',
     "\x00", '{"network": {"width": ' + "9" * 5000 + "}}", '{"network": {"a": {}}, "b": NaN}'],
    ids=lambda content: ascii(content)[:20],
)  # fmt: skip
def test_a_configuration_that_is_none_is_refused(variant_folder, hub_server, content):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    upload_config(variant_folder, content)
    refused("owner/tiny", ".", VariantError)


def test_an_architecture_that_colours_nothing_is_refused(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    for name in ("ResNet34", "os.system", "", 5, ["ResUNet"], {"ResUNet": 1}):
        config = json.loads((variant_folder / "config.json").read_text())
        upload_config(variant_folder, json.dumps(config | {"architecture": name}))
        refused("owner/tiny", "unknown architecture", VariantError)


# The host's token and what only it may see.


def test_the_host_s_token_is_never_sent_for_a_name_that_a_visitor_typed(
    variant_folder, hub_server, tokens
):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    tokens.clear()
    assert stranger("owner/tiny")
    variant = resolve("owner/tiny", folders=False)  # whatever the token that is given
    variant = resolve("owner/tiny@main", folders=False, token=TOKEN)
    assert "owner/tiny" in list_variants(hub=True, token=False)
    assert card(variant, token=False)
    assert len(tokens) >= 6 and {token for _, token in tokens} == {None}
    resolve("owner/tiny")
    assert tokens[-1][1] == f"Bearer {TOKEN}"  # the server does tell


def test_a_private_variant_is_no_visitor_s(variant_folder, hub_server, tokens):
    publish(variant_folder, "owner/secret", private=True, token=TOKEN)
    refused("owner/secret", "no such repository on the Hub, or it is private.$", NotFoundError)
    assert resolve("owner/secret").source == "hub"  # now it lies in the cache
    refused("owner/secret", "no such repository", NotFoundError)
    commit = hub_server.repos["model", "owner/secret"].branches["main"]
    refused(f"owner/secret@{commit}", "no such repository", NotFoundError)
    assert "owner/secret" not in list_variants(hub=True, token=False)
    hub_server.fault(path=".*", times=None, status=503)
    for name in ("owner/secret", f"owner/secret@{commit}"):
        refused(name, "Try again later", HubError)
    assert resolve("owner/secret").source == "hub"


def test_what_was_public_is_no_longer_once_it_is_private(variant_folder, hub_server, tokens):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    assert stranger("owner/tiny")
    hub_server.repos["model", "owner/tiny"].private = True
    resolve("owner/tiny")
    hub_server.fault(path=".*", times=None, status=503)
    refused("owner/tiny", "Try again later", HubError)


def test_without_a_token_all_that_is_cached_was_public(variant_folder, hub_server, monkeypatch):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    for file in ("config.json", "model.safetensors"):  # as a Space preloads it
        hf_hub_download("owner/tiny", file)
    hub_server.fault(path=".*", times=None, status=503)
    assert stranger("owner/tiny")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    refused("owner/tiny", "Try again later", HubError)


def test_a_gated_variant_is_no_visitor_s(variant_folder, hub_server, tokens, monkeypatch):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    told = HubServer.repo_info

    def gated(self: HubServer, call: Any) -> dict[str, Any]:
        return {**told(self, call), "gated": "manual"}

    monkeypatch.setattr(
        "hub_server.ROUTES",
        [(m, p, gated if h is told else h) for m, p, h in sys.modules["hub_server"].ROUTES],
    )
    assert resolve("owner/tiny").source == "hub"
    refused("owner/tiny", "is gated", NotFoundError)
    hub_server.fault(path=".*", times=None, status=503)
    refused("owner/tiny", "Try again later", HubError)


# The Hub gone wrong.


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 429}, {"status": 403}, {"cut": True}, {"delay": 60}]
)
def test_a_hub_that_fails_gives_one_sentence_soon(variant_folder, hub_server, monkeypatch, fault):
    monkeypatch.setattr("colorhub.hub.TIMEOUT", 0.5)
    publish(variant_folder, "owner/tiny", token=TOKEN)
    hub_server.fault(path="/api/models/owner", times=None, **fault)
    start = time.monotonic()
    refused("owner/tiny", "Try again later", HubError)
    assert time.monotonic() - start < 5
    hub_server.clear_faults()
    assert stranger("owner/tiny")  # and it is asked again


def test_a_file_that_does_not_come_holds_nobody_up_for_long(
    variant_folder, hub_server, monkeypatch
):
    monkeypatch.setattr(strangers_module, "PATIENCE", 1.0)
    publish(variant_folder, "owner/tiny", token=TOKEN)
    hub_server.fault(path="/lfs/", times=None, delay=30)
    start = time.monotonic()
    refused("owner/tiny", "did not answer in time", HubError)
    assert time.monotonic() - start < 4
    hub_server.clear_faults()


def test_a_file_that_comes_short_is_not_loaded(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    oid = next(iter(hub_server.storage))
    hub_server.storage[oid] = hub_server.storage[oid][:-100]
    repo = hub_server.repos["model", "owner/tiny"]
    assert len(repo.files["model.safetensors"]) != len(hub_server.storage[oid])
    refused("owner/tiny", "Try again later|truncated", ColorhubError)


# The app itself, through a real server.


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of an app with one tiny variant, and its folder."""
    pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
    folder = tmp_path_factory.mktemp("app")
    weights.save(make_generator(), folder / "variants" / "natural", mean_ab=(1.0, 2.0))
    make_photo().save(folder / "private.png")
    with serving(APP, folder, HF_TOKEN=TOKEN, TMPDIR=str(folder)) as address:
        yield address.rstrip("/"), folder


def call(address: str, name: str, *data: Any) -> str:
    """The last event of a call of the app's API, by hand: gradio_client is too well-behaved."""
    body = json.dumps({"data": data}).encode()
    url = f"{address}/gradio_api/call/{name}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{url}/{event}", timeout=60) as stream:
            told = stream.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return f"event: error\ndata: {error.code} {error.read().decode(errors='replace')}"
    return told[told.rindex("event: ") :]


def file(path: str | Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


def upload(address: str, path: Path) -> str:
    """What the app calls a photo that was sent to it."""
    boundary, content = "boundary", path.read_bytes()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"'
    body = f"{head}\r\nContent-Type: image/png\r\n\r\n".encode() + content
    body += f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", body, kind)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)[0])


def test_a_visitor_s_own_photo_is_coloured(app, tmp_path):
    address, _ = app
    make_photo().save(tmp_path / "mine.png")
    told = call(address, "colorize", file(upload(address, tmp_path / "mine.png")), "natural", 1, 0)
    assert told.startswith("event: complete"), told


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../etc/passwd", "README.md", "app.py", "private.png", "~/.netrc", "\0",
     "uploads/../private.png", "/proc/self/environ", "/dev/stdin", "file:///etc/passwd", ""],
)  # fmt: skip
@pytest.mark.parametrize("endpoint", ["colorize", "compare"])
def test_a_file_of_the_machine_is_no_photo(app, path, endpoint):
    address, folder = app
    path = str(folder / path) if path.endswith("private.png") else path
    names = "natural" if endpoint == "colorize" else ["natural"]
    photos = (file(path), path, file("x.png", url=f"{address}/gradio_api/file={path}"))
    for photo in photos:
        told = call(address, endpoint, photo, names, 1, 0)
        assert told.startswith("event: error"), told
        assert "root:" not in told and TOKEN not in told


def join(address: str, event: int, data: list[Any], session: str) -> str:
    """The last message of an event of the page, which has no name in the API but can be called."""
    body = json.dumps({"data": data, "fn_index": event, "session_hash": session}).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/gradio_api/queue/join", body, kind)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
        url = f"{address}/gradio_api/queue/data?session_hash={session}"
        with urllib.request.urlopen(url, timeout=60) as stream:
            told = stream.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode(errors="replace")
    return told[told.rindex('"process_completed"') :]


def test_no_event_of_the_page_takes_a_file_of_the_machine(app):
    address, folder = app
    path = str(folder / "private.png")
    with urllib.request.urlopen(f"{address}/config", timeout=30) as answer:
        config = json.load(answer)
    parts = {each["id"]: each for each in config["components"]}
    kinds, many, tried = ("image", "file", "dataset", "gallery"), "multiselect", 0
    for event in config["dependencies"]:
        inputs = [parts[each] for each in event["inputs"]]
        if not any(each["type"] in kinds for each in inputs):
            continue
        for photo in (
            # Gradio looks at the path of what has such a `meta`, and at nothing else's.
            file(path), {"path": path}, {"path": path, "meta": {}}, {"path": path, "url": path},
            [{"path": path}], [file(path)], path, [path], [[path]],
        ):  # fmt: skip
            data = [
                photo if part["type"] in kinds
                else "natural" if part["type"] == "dropdown" and not part["props"].get(many)
                else part["props"].get("value")
                for part in inputs
            ]  # fmt: skip
            told = join(address, event["id"], data, f"visitor{tried}")
            tried += 1
            assert "48 x 40 pixels" not in told and "private-natural" not in told, told
            assert "private.png is chosen" not in told and f"file={path}" not in told, told
    assert tried >= 9 * 4


def test_a_photo_at_an_address_of_the_machine_is_not_fetched(app, hub_server):
    address, _ = app
    hub_server.static["/photo.png"] = b"secret of the inner network"
    public = hub_server.url.replace("127.0.0.1", "photos.example.org")  # refused unasked
    for url in (f"{hub_server.url}/photo.png", f"{hub_server.storage_url}/photo.png", public):
        for photo in (url, file(url), file("photo.png", url=url)):
            told = call(address, "colorize", photo, "natural", 1, 0)
            assert told.startswith("event: error"), told
            if isinstance(photo, dict) and photo["path"] == url:
                assert "this app opens no address" in told
    assert not hub_server.requests


def test_files_of_the_machine_are_not_served(app):
    address, folder = app
    for path in ("/etc/passwd", folder / "private.png", folder / "log", ROOT / "app.py",
                 folder / "variants/natural/config.json", "/proc/self/environ"):  # fmt: skip
        for quoted in (str(path), urllib.parse.quote(str(path), safe="")):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(f"{address}/gradio_api/file={quoted}", timeout=30)
            refusal.value.close()
            assert refusal.value.code in (403, 404)


@pytest.mark.parametrize(
    "name",
    ["../..", "/etc", "http://127.0.0.1/x", "a/b/c", "owner/name@../../x", "a\0b", "x" * 9000,
     "<img src=x onerror=alert(1)>", "\u043ewner/name"],
    ids=lambda name: ascii(name)[:20],
)  # fmt: skip
def test_a_hostile_name_gets_a_sentence_from_the_app(app, tmp_path, name):
    address, folder = app
    make_photo().save(tmp_path / "mine.png")
    told = call(address, "colorize", file(upload(address, tmp_path / "mine.png")), name, 1, 0)
    assert told.startswith("event: error") and "There is no variant" in told, told
    assert "<img" not in told and str(folder) not in told


def test_the_app_takes_no_secret_of_the_host_along(
    app, variant_folder, hub_server, tokens, tmp_path
):
    address, folder = app
    make_photo().save(tmp_path / "mine.png")
    photo = file(upload(address, tmp_path / "mine.png"))
    publish(variant_folder, "owner/tiny", token=TOKEN)
    publish(variant_folder, "owner/secret", private=True, token=TOKEN)
    tokens.clear()
    told = call(address, "colorize", photo, "owner/tiny", 1, 0)
    assert told.startswith("event: complete"), told
    told = call(address, "colorize", photo, "owner/secret", 1, 0)
    assert "no such repository" in told and str(folder) not in told
    assert tokens and {token for _, token in tokens} == {None}


def test_values_of_the_wrong_kind_do_not_stop_the_app(app, tmp_path):
    address, _ = app
    make_photo().save(tmp_path / "mine.png")
    photo = file(upload(address, tmp_path / "mine.png"))
    for data in (
        [photo, ["natural"], 1, 0], [photo, {"a": 1}, 1, 0], [photo, 5, 1, 0],
        [photo, "natural", "much", 0], [photo, "natural", 1, "x"], [photo, "natural", 1, -1],
        [photo, "natural", 1, 1e400], [None, "natural", 1, 0], [[photo], "natural", 1, 0], [], [1],
    ):  # fmt: skip
        assert call(address, "colorize", *data).startswith("event: ")
    for names in (5, {"a": 1}, [{"a": 1}], [["natural"]], [None], ["natural"] * 10_000, "natural"):
        assert call(address, "compare", photo, names, 1, 0).startswith("event: ")
    assert call(address, "colorize", photo, "natural", 1, 0).startswith("event: complete")
