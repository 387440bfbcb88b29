"""The Hub may be away while a run trains; a token is in nothing that the run leaves behind."""

import os
import subprocess
import sys
import threading
import time

import datasets
import pytest
import torch
from conftest import ROOT, make_photo
from test_train import fresh_accelerate, run_here  # noqa: F401

from colorhub import HubError, hub, publisher
from colorhub.batches import Epoch, PhotoBatches
from colorhub.data import open_rows
from colorhub.publisher import Publisher


@pytest.fixture
def signed_in(hub_server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    monkeypatch.setattr(publisher, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(publisher, "LAST_WAITS", (0.05, 0.05))
    return hub_server


def test_pushing_never_waits_for_the_hub(signed_in, variant_folder):
    said = []
    hub.create("owner/run")
    signed_in.fault(path="/commit/", delay=30)
    there = Publisher("owner/run", private=False, say=said.append)
    begin = time.monotonic()
    for step in range(5):
        there.push(variant_folder, f"step {step}")
    assert time.monotonic() - begin < 5
    assert [push.what for push in there._waiting] == ["step 0", "step 4"]  # one is under way
    signed_in.clear_faults()  # the connection that hangs is dropped
    there.finish(variant_folder)
    assert any("step 0" in line for line in said)
    assert said[-1].startswith("Published the finished variant")


def test_a_push_is_tried_until_the_hub_is_back(signed_in, variant_folder):
    said, back = [], threading.Event()
    hub.create("owner/run")
    signed_in.fault(method="POST", path="/commit/", status=503)

    def say(line):
        said.append(line)
        if line.startswith("Published"):
            back.set()
        elif len(said) == 3:
            signed_in.clear_faults()

    there = Publisher("owner/run", private=False, say=say)
    there.push(variant_folder, "step 1", revision="epoch-1")
    assert back.wait(30)
    assert sum("could not be published yet, trying on" in line for line in said) == 3
    there.finish(variant_folder)
    assert "epoch-1" in signed_in.repos["model", "owner/run"].tags


def test_a_final_push_that_fails_says_how_to_publish(signed_in, photo_folder, tmp_path):
    signed_in.fault(method="POST", path="/commit/", status=503)
    more = "--max_train_steps 4 --push_to_hub --hub_model_id owner/run --hub_epochs 1"
    with pytest.raises(HubError, match=r"is whole in .*colorhub publish .* --repo_id owner/run"):
        run_here("autoencoder", photo_folder, tmp_path / "run", more)
    signed_in.clear_faults()
    again = f"{more} --resume_from_checkpoint latest"
    run_here("autoencoder", photo_folder, tmp_path / "run", again)
    assert "model.safetensors" in signed_in.repos["model", "owner/run"].files


def test_a_run_pushes_at_checkpoints_while_it_trains(signed_in, photo_folder, tmp_path, capsys):
    more = "--max_train_steps 6 --checkpointing_steps 2 --push_every 2"
    more += " --push_to_hub --hub_model_id owner/run"
    run_here("autoencoder", photo_folder, tmp_path / "run", more)
    said = capsys.readouterr().err
    assert "Published step 4" in said and "Published the finished variant" in said
    assert "step 2" not in said and "step 6" not in said


def test_a_token_is_in_nothing_a_run_leaves(signed_in, tmp_path, photo_folder):
    """Logs, tables, TensorBoard, checkpoints, card, configuration, repository, output."""
    token = "hf_" + "Qx7" * 12
    signed_in.tokens[token] = "owner"
    address = signed_in.url.replace("127.0.0.1", "localhost")
    photos = datasets.load_dataset("imagefolder", data_dir=str(photo_folder), split="train")
    photos.to_parquet(tmp_path / "shard.parquet")
    signed_in.static["/a.parquet"] = (tmp_path / "shard.parquet").read_bytes()
    output = tmp_path / "run"
    said = b""
    for number, (data, status) in enumerate(
        [
            (f"--dataset_name {photo_folder}", 0),
            (f"--data_files {address}/a.parquet?sig={token}", 0),
            (f"--data_files {address}/absent.parquet?sig={token}", 1),
            (f"--data_files http://me:{token}@127.0.0.1:9/a.parquet", 1),
        ]
    ):
        command = f"{sys.executable} {ROOT}/train/autoencoder.py {data} --output_dir {output}"
        command += " --resolution 16 --train_batch_size 4 --width 4 --dataloader_num_workers 0"
        command += f" --streaming --max_train_steps {number + 2} --resume_from_checkpoint latest"
        command += " --report_to tensorboard --push_to_hub --hub_model_id owner/run"
        environment = os.environ | {"HF_TOKEN": token}
        done = subprocess.run(
            command.split(), capture_output=True, timeout=120, cwd=ROOT, env=environment
        )
        assert done.returncode == status, done.stderr.decode()
        said += done.stdout + done.stderr
    files = [path for path in output.rglob("*") if path.is_file()]
    assert any("events.out" in path.name for path in files)
    seen = [said, *(path.read_bytes() for path in files)]
    seen += signed_in.repos["model", "owner/run"].files.values()
    assert len(seen) > 12 and not any(token.encode() in content for content in seen)


@pytest.mark.parametrize(
    "fault",
    [{"cut": True, "times": 2}, {"status": 503, "times": 1}, {"status": 404, "times": 1}],
    ids=["cut", "unavailable", "not found"],
)
def test_a_stream_from_the_hub_outlives_its_connection(hub_server, tmp_path, fault):
    for i in range(24):
        make_photo(seed=i).save(tmp_path / f"{i:02}.png")
    photos = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train")
    photos.push_to_hub("owner/photos", token="owner-token", num_shards=3)
    rows = open_rows("owner/photos", streaming=True)
    assert rows.num_shards == 3

    def epoch():
        batches = PhotoBatches(rows, resolution=16, batch_size=4, seed=0)
        return torch.cat([rgb for step in Epoch(batches, 0) for rgb in step])

    whole = epoch()
    hub_server.fault(method="GET", path=r"/lfs/|/resolve/", **fault)
    again = epoch()
    assert len(whole) == 24 and torch.equal(whole, again)
    assert hub_server.faults[0].times == 0
