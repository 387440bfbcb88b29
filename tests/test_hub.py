"""Publishing and loading through the real client and a Hub on loopback."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import make_generator, make_photo
from huggingface_hub import HfApi

from colorhub import Colorizer, HubError, NotFoundError, OptionError, VariantError, cards, weights
from colorhub.hub import backbone, list_variants, publish, resolve

TOKEN = "owner-token"


pytestmark = pytest.mark.usefixtures("empty_cache")


def picture_of(name, **options):
    colorizer = Colorizer.from_pretrained(name, device="cpu", **options)
    return np.asarray(colorizer.colorize(make_photo()))


def other_weights(folder):
    generator = make_generator()
    generator.head.bias.data.neg_()
    weights.save(generator, folder)


def test_a_published_variant_is_loaded_back_by_name_and_tag(variant_folder, hub_server):
    address = publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)
    assert address == f"{hub_server.url}/owner/tiny"
    other_weights(variant_folder)
    publish(variant_folder, "owner/tiny", revision="epoch-2", token=TOKEN)

    first, second = (picture_of("owner/tiny", revision=f"epoch-{i}") for i in (1, 2))
    assert np.array_equal(picture_of("owner/tiny@epoch-1"), first)
    assert np.array_equal(picture_of("owner/tiny"), second)
    assert not np.array_equal(first, second)
    assert np.array_equal(picture_of(variant_folder), second)
    refs = HfApi(token=TOKEN).list_repo_refs("owner/tiny")
    assert {tag.name for tag in refs.tags} == {"epoch-1", "epoch-2"}


def test_everything_a_card_needs_is_on_the_hub_in_one_commit(variant_folder, hub_server):
    (variant_folder / "samples").mkdir()
    make_photo().save(variant_folder / "samples" / "epoch-001.png")
    (variant_folder / "training_log.csv").write_text("step\n1\n")
    (variant_folder / "checkpoints").mkdir()
    (variant_folder / "checkpoints" / "state.json").touch()
    publish(variant_folder, "owner/tiny", token=TOKEN)
    api = HfApi(token=TOKEN)
    files = set(api.list_repo_files("owner/tiny")) - {".gitattributes"}
    assert files == {
        "README.md", "config.json", "model.safetensors", "training_log.csv",
        "samples/epoch-001.png",
    }  # fmt: skip
    commits = [each for each in api.list_repo_commits("owner/tiny") if "Publish" in each.title]
    assert len(commits) == 1
    info = api.model_info("owner/tiny")
    assert (info.library_name, info.pipeline_tag) == ("colorhub", "image-to-image")


def test_publishing_again_changes_nothing(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)
    before = HfApi(token=TOKEN).list_repo_commits("owner/tiny")
    publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)
    assert HfApi(token=TOKEN).list_repo_commits("owner/tiny") == before


def test_a_published_tag_is_not_moved_to_other_weights(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)
    other_weights(variant_folder)
    with pytest.raises(OptionError, match="already has a revision epoch-1"):
        publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}])
def test_an_interrupted_upload_can_be_repeated(variant_folder, hub_server, fault):
    hub_server.fault(method="POST", path="/commit/", times=1, **fault)
    with pytest.raises(HubError, match="Try again"):
        publish(variant_folder, "owner/tiny", token=TOKEN)
    publish(variant_folder, "owner/tiny", token=TOKEN)
    assert picture_of("owner/tiny").any()


def test_a_commit_whose_answer_was_lost_counts(variant_folder, hub_server):
    hub_server.fault(method="POST", path="/commit/", times=1, lost=True)
    publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)
    assert picture_of("owner/tiny@epoch-1").any()


def test_a_private_variant_needs_its_token(variant_folder, hub_server):
    publish(variant_folder, "owner/secret", private=True, token=TOKEN)
    with pytest.raises(NotFoundError, match="private"):
        Colorizer.from_pretrained("owner/secret")
    assert picture_of("owner/secret", token=TOKEN).any()


def test_a_public_repository_is_not_taken_for_private(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    with pytest.raises(OptionError, match="is public"):
        publish(variant_folder, "owner/tiny", private=True, token=TOKEN)


def test_without_a_token_publishing_says_to_sign_in(variant_folder, hub_server):
    with pytest.raises(HubError, match="sign in"):
        publish(variant_folder, "owner/tiny", token="no-such-token")


def test_what_cannot_be_loaded_is_not_published(variant_folder, hub_server):
    (variant_folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(VariantError, match="truncated"):
        publish(variant_folder, "owner/tiny", token=TOKEN)
    assert not hub_server.repos


def test_unknown_names_and_revisions_are_told_apart(variant_folder, hub_server):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    with pytest.raises(NotFoundError, match="no such revision"):
        resolve("owner/tiny@epoch-9")
    with pytest.raises(NotFoundError, match="no such repository"):
        resolve("owner/absent")
    for name in ("../../etc", "a/b/c", "owner/..", "/etc", "tiny@", ""):
        with pytest.raises(NotFoundError):
            resolve(name, folders=False)


def test_strangers_cannot_name_folders_of_this_machine(variant_folder, monkeypatch):
    monkeypatch.chdir(variant_folder.parent.parent)
    name = f"{variant_folder.parent.name}/{variant_folder.name}"
    assert resolve(name).source == "local"
    with pytest.raises(NotFoundError):
        resolve(name, folders=False)


def test_a_repository_that_is_no_variant_is_refused_before_it_is_fetched(hub_server):
    api = HfApi(token=TOKEN)
    api.create_repo("owner/pickled")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="pytorch_model.bin", repo_id="owner/pickled")
    with pytest.raises(VariantError, match="pickle"):
        resolve("owner/pickled")
    api.create_repo("owner/empty")
    with pytest.raises(VariantError, match=r"no config\.json"):
        resolve("owner/empty")


def test_corruption_on_the_way_is_noticed(variant_folder, hub_server):
    weight_file = variant_folder / "model.safetensors"
    publish(variant_folder, "owner/tiny", token=TOKEN)
    content = bytearray(weight_file.read_bytes())
    content[-8] ^= 1
    HfApi(token=TOKEN).upload_file(
        path_or_fileobj=bytes(content), path_in_repo="model.safetensors", repo_id="owner/tiny"
    )
    with pytest.raises(VariantError, match="corrupted"):
        Colorizer.from_pretrained("owner/tiny")


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}, {"delay": 60.0}])
def test_a_cached_variant_works_without_the_hub_and_without_a_long_wait(
    variant_folder, hub_server, fault
):
    publish(variant_folder, "owner/tiny", revision="epoch-1", token=TOKEN)
    expected = picture_of("owner/tiny@epoch-1")
    hub_server.fault(path=".*", times=None, **fault)
    start = time.monotonic()
    assert np.array_equal(picture_of("owner/tiny@epoch-1"), expected)
    assert time.monotonic() - start < 20  # the Hub's own client would try for minutes
    with pytest.raises(HubError, match="Try again later"):
        resolve("owner/another")
    hub_server.clear_faults()


def test_a_half_fetched_variant_is_no_variant(variant_folder, hub_server, empty_cache):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    resolve("owner/tiny")
    for file in Path(empty_cache).rglob("model.safetensors"):
        file.unlink()
    hub_server.fault(path=".*", times=None, status=503)
    with pytest.raises(HubError, match="answers 503"):
        resolve("owner/tiny")


def test_variants_on_the_hub_are_listed_by_owner(variant_folder, hub_server, monkeypatch):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    HfApi(token=TOKEN).create_repo("owner/something-else")
    assert "owner/tiny" not in list_variants()
    assert "owner/tiny" in list_variants(hub=True)
    assert "owner/something-else" not in list_variants(hub=True)
    monkeypatch.setenv("COLORHUB_NAMESPACE", "nobody, owner")
    assert "owner/tiny" in list_variants(hub=True)
    monkeypatch.setenv("COLORHUB_NAMESPACE", "nobody")
    assert "owner/tiny" not in list_variants(hub=True)


def test_a_hub_that_hangs_does_not_hang_the_list(hub_server, monkeypatch):
    monkeypatch.setattr("colorhub.hub.TIMEOUT", 0.3)
    hub_server.fault(path="/api/models", times=None, delay=30.0)
    with pytest.raises(HubError, match="in time"):
        list_variants(hub=True)
    hub_server.clear_faults()


def test_a_hub_that_hangs_does_not_hang_publishing(variant_folder, hub_server, monkeypatch):
    monkeypatch.setattr("colorhub.hub.TIMEOUT", 0.2)
    hub_server.fault(path="/api/repos/create", times=None, delay=30.0)
    with pytest.raises(HubError, match="in time"):
        publish(variant_folder, "owner/tiny", token=TOKEN)
    hub_server.clear_faults()


def backbone_of(value):
    return {"layer00.weight": torch.full((2, 3), value), "layer00.bias": torch.zeros(2)}


def put_backbone(value, **options):
    content = safetensors.torch.save(backbone_of(value))
    return HfApi(token=TOKEN).upload_file(
        path_or_fileobj=content, path_in_repo="model.safetensors", repo_id="owner/net", **options
    )


def assert_backbone(name, value):
    tensors = backbone(name)
    assert tensors.keys() == {"layer00.weight", "layer00.bias"}
    assert torch.equal(tensors["layer00.weight"], torch.full((2, 3), value))


def test_a_backbone_is_a_file_or_a_repository_s(hub_server, tmp_path):
    safetensors.torch.save_file(backbone_of(1.0), tmp_path / "net.safetensors")
    assert_backbone(tmp_path / "net.safetensors", 1.0)
    HfApi(token=TOKEN).create_repo("owner/net")
    first = put_backbone(2.0).oid
    put_backbone(3.0)
    assert_backbone("owner/net", 3.0)
    assert_backbone(f"owner/net@{first}", 2.0)
    hub_server.fault(path=".*", times=None, status=503)
    assert_backbone("owner/net", 3.0)  # as it was fetched


def test_a_backbone_that_is_not_there_is_not_found(hub_server, tmp_path):
    with pytest.raises(NotFoundError, match="no backbone"):
        backbone(tmp_path / "absent.safetensors")
    for name in ("absent", "owner/..", ""):
        with pytest.raises(NotFoundError, match="no backbone"):
            backbone(name)
    with pytest.raises(NotFoundError, match="no such repository"):
        backbone("owner/absent")
    HfApi(token=TOKEN).create_repo("owner/empty")
    with pytest.raises(NotFoundError, match=r"has no model\.safetensors"):
        backbone("owner/empty")
    hub_server.fault(path=".*", times=None, status=403)
    with pytest.raises(HubError, match="Try again later"):
        backbone("owner/net")


def test_a_truncated_backbone_is_refused(hub_server, tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(backbone_of(1.0), path)
    for content in (path.read_bytes()[:-4], b"abcd", b""):
        path.write_bytes(content)
        with pytest.raises(VariantError, match="truncated or no safetensors file"):
            backbone(path)


def test_a_name_without_an_owner_is_one_s_own(variant_folder, hub_server):
    assert publish(variant_folder, "tiny", token=TOKEN).endswith("/owner/tiny")
    with pytest.raises(OptionError, match="write owner/name"):
        publish(variant_folder, "owner/ti ny", token=TOKEN)


def test_local_variants_are_found_in_their_folder(variant_folder, monkeypatch):
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(variant_folder.parent))
    assert "tiny" in list_variants()
    assert resolve("tiny").source == "local"


def test_a_new_process_without_network_uses_what_was_cached(
    variant_folder, hub_server, empty_cache
):
    publish(variant_folder, "owner/tiny", token=TOKEN)
    resolve("owner/tiny")
    program = "from colorhub.hub import resolve; print(resolve('owner/tiny').revision)"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(empty_cache)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == HfApi().model_info("owner/tiny").sha, done.stderr


def test_push_to_hub_publishes_a_loaded_variant_with_its_card(variant_folder, hub_server):
    colorizer = Colorizer.from_pretrained(variant_folder, device="cpu")
    colorizer.push_to_hub("owner/pushed", revision="v1", token=TOKEN)
    shutil.rmtree(variant_folder)
    assert picture_of("owner/pushed@v1").any()


def test_no_token_is_left_in_what_is_published(variant_folder, hub_server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    cards.write(variant_folder)
    publish(variant_folder, "owner/tiny")
    for repo in hub_server.repos.values():
        for content in repo.files.values():
            assert TOKEN.encode() not in content
            assert str(variant_folder.parent).encode() not in content
