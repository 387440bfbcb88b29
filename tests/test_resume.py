"""Going on from a checkpoint: after a stop, after divergence, with what was trained so far."""

import io
import math

import pytest
import torch
from conftest import make_photo
from test_train import (
    assert_same_state,
    fresh_accelerate,  # noqa: F401  (every run in this process is one of its own)
    last_state,
    log_of,
    run_here,
    start,
)

from colorhub import OptionError, TrainingError, checkpoints, training, weights
from colorhub.runlog import Log

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def assert_same_run(one, two):
    assert_same_state(last_state(one), last_state(two))
    files = [checkpoints.latest(each / "checkpoints") / "state.safetensors" for each in (one, two)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert log_of(one) == log_of(two)
    for file in ("model.safetensors", "skipped.txt"):
        if (one / file).exists():
            assert (one / file).read_bytes() == (two / file).read_bytes()
    samples = {path.name: path.read_bytes() for path in (one / "samples").iterdir()}
    assert samples == {path.name: path.read_bytes() for path in (two / "samples").iterdir()}


@pytest.fixture
def rough_folder(tmp_path):
    """Twenty photos, three of them of no use."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        make_photo(40 + i, 36, seed=i).save(folder / f"{i:02}.png")
    for i in (3, 11):
        (folder / f"{i:02}.png").write_bytes(b"broken")
    make_photo().convert("L").save(folder / "15.png")
    return folder


@pytest.mark.parametrize(
    "more",
    [
        "--ema_decay 0.9 --gradient_accumulation_steps 2 --train_batch_size 2 --n_critic 2",
        "--lr_scheduler cosine --dataloader_num_workers 2",
        "--streaming --dataloader_num_workers 2",
    ],
)
@pytest.mark.parametrize("stop", [3, 4])  # within the first epoch and at its end
def test_a_resumed_run_is_the_same_to_the_bit(more, stop, rough_folder, tmp_path):
    more += " --max_bad_fraction 0.2 --checkpoints_total_limit 9"
    whole = run_here("cwgan", rough_folder, tmp_path / "whole", f"{more} --max_train_steps 7")
    # The very command, but stopped: a shorter --max_train_steps would change the cosine.
    parts = tmp_path / "parts"
    command = f"{more} --max_train_steps 7 --checkpointing_steps {stop}"
    stopped_at(stop, rough_folder, parts, command)
    run_here("cwgan", rough_folder, parts, f"{command} --resume_from_checkpoint latest")
    assert_same_run(whole, parts)


def stopped_at(step, folder, output, command):
    """A run whose process ends, without another word, when it has made its first checkpoint."""

    class Stop(BaseException):
        pass

    def save_and_die(self, **options):
        save(self, **options)
        raise Stop

    save = training.State.save
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(training.State, "save", save_and_die)
        run_here("cwgan", folder, output, command)
    assert last_state(output)["progress"]["step"] == step


@pytest.mark.parametrize("stop", [3, 5])
def test_two_processes_resume_to_the_bit(stop, rough_folder, tmp_path):
    more = "--train_batch_size 2 --max_bad_fraction 0.2 --ema_decay 0.9 --dataloader_num_workers 1"
    for name, steps in (("whole", [6]), ("parts", [stop, 6])):
        for number in steps:
            options = f"{more} --max_train_steps {number} --resume_from_checkpoint latest"
            process = start(TORCHRUN, "cwgan", rough_folder, tmp_path / name, options)
            assert process.wait(timeout=120) == 0
    assert_same_state(last_state(tmp_path / "whole"), last_state(tmp_path / "parts"))
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


def test_a_run_s_mean_weights_are_what_it_publishes(photo_folder, tmp_path):
    output = run_here("autoencoder", photo_folder, tmp_path, "--max_train_steps 3 --ema_decay 0.5")
    parts = last_state(output)["parts"]
    published = weights.load(output).state_dict()
    name = next(iter(published))
    mean, last = parts["ema"][f"module.{name}"], parts["generator"][name]
    assert torch.equal(published[name], mean.half().float())
    assert not torch.equal(mean, last)


def test_accumulated_batches_make_one_step(photo_folder, tmp_path):
    more = "--train_batch_size 2 --gradient_accumulation_steps 2 --max_train_steps 1"
    parts = run_here("autoencoder", photo_folder, tmp_path / "parts", more)
    whole = run_here("autoencoder", photo_folder, tmp_path / "whole", "--max_train_steps 1")
    one, two = last_state(parts), last_state(whole)
    assert one["progress"]["photos"] == two["progress"]["photos"] == 4
    for name, value in two["parts"]["generator"].items():
        torch.testing.assert_close(one["parts"]["generator"][name], value, rtol=1e-3, atol=1e-5)


def poison(patch, *steps):
    """Let a loss be infinite at the given of a run's steps, each once."""
    report, left = training.Run.report, set(steps)

    def poisoned(run, **losses):
        if run.progress.step + 1 in left:
            left.remove(run.progress.step + 1)
            losses = {name: loss * math.inf for name, loss in losses.items()}
        report(run, **losses)

    patch.setattr(training.Run, "report", poisoned)


def test_divergence_names_the_step_and_the_last_good_checkpoint(
    photo_folder, tmp_path, monkeypatch
):
    poison(monkeypatch, 5)
    seen = r"not finite is mse.*norm of generator \d.*lr 0.001"
    with pytest.raises(TrainingError, match=rf"step 5 \(epoch 2\): {seen}.*checkpoint-4"):
        run_here("autoencoder", photo_folder, tmp_path, "--checkpointing_steps 2")
    assert checkpoints.latest(tmp_path / "checkpoints").name == "checkpoint-4"


def test_a_run_that_diverges_goes_back_and_on_with_half_the_rate(
    photo_folder, tmp_path, monkeypatch, capsys
):
    poison(monkeypatch, 5, 7)
    more = "--checkpointing_steps 2 --on_divergence rollback --max_train_steps 9"
    output = run_here("autoencoder", photo_folder, tmp_path, more)
    assert "Going back to" in capsys.readouterr().err
    assert "Went back 2 times after divergence" in (output / "README.md").read_text()
    state = last_state(output)
    assert state["progress"]["rollbacks"] == 2 and state["progress"]["step"] == 9
    rates = [float(row["lr"]) for row in log_of(output)]
    assert rates == [1e-3] * 4 + [5e-4] * 2 + [2.5e-4] * 3
    assert [int(row["step"]) for row in log_of(output)] == list(range(1, 10))


def test_a_scheduled_rate_is_halved_as_well(photo_folder, tmp_path, monkeypatch):
    poison(monkeypatch, 3)
    more = "--checkpointing_steps 2 --max_train_steps 4 --lr_scheduler cosine"
    output = run_here("cwgan", photo_folder, tmp_path / "a", f"{more} --on_divergence rollback")
    whole = run_here("cwgan", photo_folder, tmp_path / "b", more)
    rates = [[float(row["critic_lr"]) for row in log_of(each)] for each in (output, whole)]
    assert rates[0][:2] == rates[1][:2]
    assert rates[0][2] == pytest.approx(rates[1][2] / 2, rel=1e-4)


def test_a_run_goes_back_a_stated_number_of_times(photo_folder, tmp_path, monkeypatch):
    poison(monkeypatch, 3, 4, 5)
    more = "--checkpointing_steps 2 --on_divergence rollback --max_rollbacks 2"
    with pytest.raises(TrainingError, match="has gone back 2 times"):
        run_here("autoencoder", photo_folder, tmp_path, more)


def test_weights_that_are_not_finite_stop_the_run(photo_folder, tmp_path):
    with pytest.raises(TrainingError, match=r"not finite .*norm of generator"):
        run_here("autoencoder", photo_folder, tmp_path, "--learning_rate 1e30")


def test_a_run_resumed_with_another_rate_goes_on_with_it(photo_folder, tmp_path):
    run_here("autoencoder", photo_folder, tmp_path, "--max_train_steps 1")
    more = "--max_train_steps 2 --resume_from_checkpoint latest --learning_rate 0.0001"
    run_here("autoencoder", photo_folder, tmp_path, more)
    assert [float(row["lr"]) for row in log_of(tmp_path)] == [1e-3, 1e-4]


def test_an_older_checkpoint_is_not_mixed_with_newer_ones(photo_folder, tmp_path):
    more = "--checkpointing_steps 1 --checkpoints_total_limit 9 --max_train_steps"
    run_here("autoencoder", photo_folder, tmp_path / "run", f"{more} 3")
    old = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    with pytest.raises(OptionError, match="holds checkpoint-3, which"):
        again = f"{more} 4 --resume_from_checkpoint {old}"
        run_here("autoencoder", photo_folder, tmp_path / "run", again)
    run_here("autoencoder", photo_folder, tmp_path / "other", again)
    assert last_state(tmp_path / "other")["progress"]["step"] == 4


def test_a_log_is_cut_back_after_a_million_steps(tmp_path):
    log = Log(tmp_path / "log.csv")
    for step in (1_000_020, 1_000_040, 1_000_050):
        log.append({"step": step, "loss": 0.123456789})
    log.cut(1_000_050, open_row=True)
    Log(tmp_path / "log.csv").append({"step": 1_000_060, "loss": 1.0, "other": 2.0})
    rows = (tmp_path / "log.csv").read_text().split()
    assert rows == ["step,loss,other", "1000020,0.123457,", "1000040,0.123457,", "1000060,1,2"]


def test_the_epoch_s_end_as_last_step_leaves_the_log_exact(photo_folder, tmp_path):
    more = "--logging_steps 3 --max_train_steps"
    whole = run_here("autoencoder", photo_folder, tmp_path / "whole", f"{more} 8")
    run_here("autoencoder", photo_folder, tmp_path / "parts", f"{more} 4")
    again = f"{more} 8 --resume_from_checkpoint latest"
    assert log_of(run_here("autoencoder", photo_folder, tmp_path / "parts", again)) == log_of(whole)


def test_a_compiled_run_learns_the_same(photo_folder, tmp_path, monkeypatch):
    more = "--max_train_steps 2 --ema_decay 0.5"
    plain = run_here("cwgan", photo_folder, tmp_path / "plain", more)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    compiled = run_here("cwgan", photo_folder, tmp_path / "compiled", more)
    assert_same_state(last_state(plain), last_state(compiled))


@pytest.mark.parametrize("strategy", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_what_splits_networks_is_refused_with_the_reason(
    strategy, photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv(f"ACCELERATE_USE_{strategy}", "true")
    with pytest.raises(OptionError, match="splits a network that is too large"):
        run_here("autoencoder", photo_folder, tmp_path)


def test_every_kind_of_photo_is_used_or_named(tmp_path):
    """Broken, grey, CMYK, 16-bit and huge ones beside each other."""
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        make_photo(seed=i).save(folder / f"{i}.png")
    make_photo(seed=7).convert("CMYK").save(folder / "cmyk.jpg")
    make_photo(seed=8).convert("L").save(folder / "grey.png")
    Image.frombytes("I;16", (40, 40), bytes(range(256)) * 12 + bytes(128)).save(folder / "deep.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    huge = io.BytesIO()
    Image.new("1", (40000, 40000)).save(huge, "PNG")
    (folder / "huge.png").write_bytes(huge.getvalue())
    more = "--max_bad_fraction 0.5 --train_batch_size 7 --num_train_epochs 1"
    output = run_here("autoencoder", folder, tmp_path / "run", more)
    assert last_state(output)["progress"]["photos"] == 7
    assert last_state(output)["progress"]["last_epoch"] == [11, 4, 0]
    assert "11 photos 4 were broken or grey" in (output / "README.md").read_text()
    skipped = (output / "skipped.txt").read_text()
    assert all(name in skipped for name in ("grey.png", "deep.png", "broken.jpg", "huge.png"))
