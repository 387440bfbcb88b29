import pytest
import torch

from colorhub import checkpoints
from colorhub.errors import TrainingError


def test_a_whole_training_state_comes_back_the_same(tmp_path):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    scheduler.step(0.5)
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "progress": {"step": 3, "name": "x", "mean": [1.5, None], "nested": {1: True}},
    }
    path = checkpoints.save(tmp_path, 3, state)
    again = checkpoints.load(path)
    assert again["progress"] == state["progress"]
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(again["network"])
    assert torch.equal(other.weight, network.weight)
    fresh = torch.optim.Adam(other.parameters(), lr=0.5)
    fresh.load_state_dict(again["optimizer"])
    assert fresh.param_groups[0]["lr"] == 0.1
    assert torch.equal(
        fresh.state[other.weight]["exp_avg"], optimizer.state[network.weight]["exp_avg"]
    )
    assert again["scheduler"]["best"] == 0.5


def test_the_latest_is_the_highest_step_and_old_ones_go(tmp_path):
    assert checkpoints.latest(tmp_path / "absent") is None
    for step in (5, 100, 20):
        checkpoints.save(tmp_path, step, {"step": step})
    assert checkpoints.latest(tmp_path).name == "checkpoint-100"
    checkpoints.save(tmp_path, 120, {"step": 120}, keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-100", "checkpoint-120"}


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path):
    checkpoints.save(tmp_path, 1, {"step": 1})
    (tmp_path / ".part-2").mkdir()
    (tmp_path / ".part-2" / "state.json").write_text("{")
    assert checkpoints.latest(tmp_path).name == "checkpoint-1"
    checkpoints.save(tmp_path, 2, {"step": 2})
    assert checkpoints.load(checkpoints.latest(tmp_path)) == {"step": 2}


def test_what_cannot_be_kept_leaves_the_older_ones_alone(tmp_path):
    checkpoints.save(tmp_path, 1, {"step": 1})
    with pytest.raises(TrainingError, match="earlier ones are intact"):
        checkpoints.save(tmp_path, 2, {"step": object()}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_damaged_checkpoint_says_so(tmp_path):
    path = checkpoints.save(tmp_path, 1, {"x": torch.ones(4)})
    (path / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="no checkpoint that can be resumed"):
        checkpoints.load(path)
