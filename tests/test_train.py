"""The training scripts, run as their users run them, on photos of the tests' own making."""

import csv
import importlib.util
import json
import operator
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import ROOT, make_photo
from safetensors.torch import load_file

from colorhub import (
    Colorizer,
    DataError,
    HubError,
    OptionError,
    TrainingError,
    checkpoints,
    inception,
    weights,
)
from colorhub.classifiers import ResNet34
from colorhub.launch import full_precision
from colorhub.training import Run

SIZES = {
    "cwgan": "--width 4 --depth 2 --noise_dim 2 --critic_width 4 --critic_depth 2",
    "pix2pix": "--width 4 --depth 2 --critic_width 4 --critic_depth 2",
    "fusion": "--width 4 --extractor resnet34 --extractor_width 2 --extractor_size 16",
    "autoencoder": "--width 4",
    "natural": "--width 4 --alternatives 2 --lr_scheduler constant",
}
COMMON = "--resolution 16 --train_batch_size 4 --logging_steps 1 --dataloader_num_workers 0"
COMMON += " --report_to none"

each_script = pytest.mark.parametrize("script", SIZES)


@pytest.fixture(autouse=True)
def fresh_accelerate(monkeypatch):
    """accelerate keeps its state in the process; every run here is one of its own."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture(scope="session", autouse=True)
def extractor(tmp_path_factory):
    """What `train/fusion.py` tells its network by: a classifier with random weights."""
    folder = tmp_path_factory.mktemp("extractor")
    weights.save(ResNet34(ResNet34.Config(width=2)), folder)
    SIZES["fusion"] += f" --extractor_from {folder}"


def arguments(script, folder, output, more=""):
    words = f"--output_dir {output} {COMMON} {SIZES[script]} {more}"
    return shlex.split(f"--dataset_name {folder} {words}" if folder else words)


def run_here(script, folder, output, more="", monkeypatch=None):
    """Run a script's own main in this process."""
    path = ROOT / "train" / f"{script}.py"
    spec = importlib.util.spec_from_file_location(f"train_{script}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    import tyro

    config = tyro.cli(
        module.Config,
        args=arguments(script, folder, output, more),
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        module.train(config)
    finally:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
    return output


def start(launcher, script, folder, output, more="", **options):
    """Start a script in processes of its own."""
    command = [sys.executable, "-m", *launcher, str(ROOT / "train" / f"{script}.py")]
    command += arguments(script, folder, output, more)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **options)


def log_of(output):
    with open(output / "training_log.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name != "images_per_second"}
            for row in csv.DictReader(file)
        ]


def last_state(output):
    return checkpoints.load(checkpoints.latest(output / "checkpoints"))


def assert_same_state(one, two):
    """To the bit, but for the time it took."""
    flat_one, flat_two = dict(flatten(one)), dict(flatten(two))
    assert flat_one.keys() == flat_two.keys()
    for path, value in flat_one.items():
        if path != "/progress/seconds":
            same = torch.equal if isinstance(value, torch.Tensor) else operator.eq
            assert same(value, flat_two[path]), path


def flatten(value, path=""):
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from flatten(each, f"{path}/{key}")
    else:
        yield path, value


@each_script
def test_a_run_leaves_a_whole_variant(script, photo_folder, tmp_path):
    output = run_here(
        script, photo_folder, tmp_path / script, "--num_train_epochs 1 --validation_split test"
    )
    colorizer = Colorizer.from_pretrained(output, device="cpu")
    assert colorizer.colorize(make_photo(50, 30)).size == (50, 30)
    assert [row["step"] for row in log_of(output)] == ["1", "2", "3", "4"]
    assert [path.name for path in (output / "samples").iterdir()] == ["epoch-001.png"]
    facts = json.loads((output / "training.json").read_text())
    assert (facts["steps"], facts["photos_seen"], facts["epochs"]) == (4, 16, 1)
    results = json.loads((output / "results.json").read_text())
    assert set(results["metrics"]) == {"variant", "grey", "mean_ab"}
    assert results["images"] == 4
    card = (output / "README.md").read_text()
    assert "ab RMSE" in card and str(tmp_path) not in card
    assert not list(output.glob(".part*"))


@each_script
@pytest.mark.parametrize("stop", [3, 4, 6])  # within the first epoch, at its end, in the second
def test_a_resumed_run_ends_where_an_unbroken_one_does(script, stop, photo_folder, tmp_path):
    whole = run_here(script, photo_folder, tmp_path / "whole", "--max_train_steps 8")
    run_here(script, photo_folder, tmp_path / "parts", f"--max_train_steps {stop}")
    parts = run_here(
        script,
        photo_folder,
        tmp_path / "parts",
        "--max_train_steps 8 --resume_from_checkpoint latest",
    )
    assert_same_state(last_state(whole), last_state(parts))
    assert log_of(whole) == log_of(parts)
    assert weights.sha256(whole / "model.safetensors") == weights.sha256(
        parts / "model.safetensors"
    )


@each_script
def test_two_processes_learn_what_one_does_with_the_joined_batch(script, photo_folder, tmp_path):
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = start(
        launcher,
        script,
        photo_folder,
        tmp_path / "two",
        "--max_train_steps 1 --train_batch_size 2",
        stderr=subprocess.PIPE,
    )
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    one = last_state(run_here(script, photo_folder, tmp_path / "one", "--max_train_steps 1"))
    two = last_state(tmp_path / "two")
    assert one["progress"]["photos"] == two["progress"]["photos"] == 4
    optimizers = [name for name in one["parts"] if name.endswith("optimizer")]
    assert optimizers
    for name in optimizers:
        for index, state in one["parts"][name]["state"].items():
            # After one step Adam's first moment is (1 - beta1) times the first gradient.
            ours, theirs = state["exp_avg"], two["parts"][name]["state"][index]["exp_avg"]
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-6)
    row_one, row_two = log_of(tmp_path / "one")[0], log_of(tmp_path / "two")[0]
    for name, value in row_one.items():
        assert float(row_two[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


def test_a_killed_run_goes_on_from_its_latest_checkpoint(photo_folder, tmp_path):
    launcher = ["accelerate.commands.launch", "--cpu"]
    endless = "--num_train_epochs 10000 --checkpointing_steps 2 --validation_epochs 10000"
    process = start(
        launcher, "cwgan", photo_folder, tmp_path / "run", endless,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while checkpoints.latest(tmp_path / "run" / "checkpoints") is None:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    step = last_state(tmp_path / "run")["progress"]["step"]
    more = f"--max_train_steps {step + 3} --resume_from_checkpoint latest"
    run_here("cwgan", photo_folder, tmp_path / "run", more)
    assert last_state(tmp_path / "run")["progress"]["step"] == step + 3
    assert [int(row["step"]) for row in log_of(tmp_path / "run")] == list(range(1, step + 4))


def test_training_in_bf16_keeps_the_penalties_in_fp32(photo_folder, tmp_path, monkeypatch):
    from accelerate import Accelerator

    from colorhub.critics import ConvCritic

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    bare = ConvCritic(ConvCritic.Config(critic_width=4, critic_depth=2))
    critic = accelerator.prepare(bare)
    seen = []
    critic.layers[0].register_forward_hook(lambda module, given, result: seen.append(result.dtype))
    photo = torch.rand(1, 1, 8, 8), torch.rand(1, 2, 8, 8)
    critic(*photo)
    full_precision(bare)(*photo)
    assert seen == [torch.bfloat16, torch.float32]
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    output = run_here("cwgan", photo_folder, tmp_path / "run", "--max_train_steps 2")
    assert json.loads((output / "training.json").read_text())["mixed_precision"] == "bf16"


def test_the_critic_may_take_more_steps_than_the_generator(photo_folder, tmp_path):
    output = run_here("cwgan", photo_folder, tmp_path, "--max_train_steps 4 --n_critic 2")
    assert [bool(row["generator"]) for row in log_of(output)] == [False, True, False, True]


def test_the_cosine_schedule_ends_at_zero(photo_folder, tmp_path):
    output = run_here("cwgan", photo_folder, tmp_path, "--max_train_steps 4 --lr_scheduler cosine")
    rates = [float(row["generator_lr"]) for row in log_of(output)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_steps_that_end_with_an_epoch_complete_it(photo_folder, tmp_path):
    output = run_here("autoencoder", photo_folder, tmp_path, "--max_train_steps 8")
    progress = last_state(output)["progress"]
    assert (progress["epoch"], progress["batch"]) == (2, 0)
    assert len(list((output / "samples").iterdir())) == 2


def test_a_run_published_by_epoch_is_loaded_back_by_tag(
    hub_server, photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    more = "--num_train_epochs 2 --push_to_hub --hub_model_id owner/run --hub_epochs 1"
    output = run_here("autoencoder", photo_folder, tmp_path / "run", more)
    loaded = Colorizer.from_pretrained("owner/run", device="cpu", token="owner-token")
    stored = load_file(output / "model.safetensors")
    assert torch.equal(loaded.generator.encoder[0].bias.half(), stored["encoder.0.bias"])
    first = Colorizer.from_pretrained("owner/run@epoch-1", device="cpu", token="owner-token")
    assert not torch.equal(first.generator.encoder[0].bias, loaded.generator.encoder[0].bias)
    published = hub_server.repos["model", "owner/run"].files
    assert "samples/epoch-002.png" in published and "training_log.csv" in published
    assert not any(b"owner-token" in content for content in published.values())
    # The same again does no harm: it resumes at its end and finds everything published.
    run_here("autoencoder", photo_folder, output, more + " --resume_from_checkpoint latest")


def test_training_streams_a_zip_at_a_url(hub_server, tmp_path):
    import io
    import zipfile

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for i in range(9):
            jpeg = io.BytesIO()
            make_photo(seed=i).save(jpeg, "JPEG")
            file.writestr(f"im{i}.jpg", jpeg.getvalue())
        file.writestr("im9.jpg", b"broken")
        file.writestr("README.txt", "no photo")
    hub_server.static["/photos.zip"] = archive.getvalue()
    words = arguments("autoencoder", "UNUSED", tmp_path / "run", "--streaming --num_train_epochs 2")
    words += ["--max_bad_fraction", "0.2"]
    # Under its other name: datasets takes what lies at HF_ENDPOINT for a Hub repository.
    address = hub_server.url.replace("127.0.0.1", "localhost")
    words = ["--data_files", f"{address}/photos.zip", *words[2:]]
    command = [sys.executable, str(ROOT / "train" / "autoencoder.py"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "epoch 1: 10 photos, 1 skipped" in done.stderr and "1 left over" in done.stderr
    assert "im9.jpg" in (tmp_path / "run" / "skipped.txt").read_text()
    assert len(log_of(tmp_path / "run")) == 4


def test_workers_that_end_early_cost_no_batch(tmp_path):
    """A worker's report of what it skipped at its end is not the end of the epoch."""
    (tmp_path / "photos").mkdir()
    for i in range(16):
        make_photo(seed=i).save(tmp_path / "photos" / f"{i:02}.png")
    for i in range(16, 24):
        (tmp_path / "photos" / f"{i}.png").write_bytes(b"broken")
    for seed in range(3):
        more = f"--num_train_epochs 1 --train_batch_size 1 --dataloader_num_workers 2 --seed {seed}"
        more += " --max_bad_fraction 0.5"
        output = run_here("autoencoder", tmp_path / "photos", tmp_path / f"run{seed}", more)
        assert last_state(output)["progress"]["photos"] == 16


def test_trouble_with_the_hub_is_no_reason_to_stop_training(
    hub_server, photo_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    hub_server.fault(method="POST", path="/commit/", status=503, times=1)
    more = "--num_train_epochs 2 --push_to_hub --hub_model_id owner/run --hub_epochs 1"
    run_here("autoencoder", photo_folder, tmp_path / "run", more)
    assert "epoch 1 could not be published yet" in capsys.readouterr().err
    assert hub_server.repos["model", "owner/run"].tags.keys() == {"epoch-1", "epoch-2"}


def test_publishing_without_a_token_fails_before_training(hub_server, photo_folder, tmp_path):
    with pytest.raises(HubError, match="sign in"):
        run_here("autoencoder", photo_folder, tmp_path / "run", "--push_to_hub")


def test_a_run_without_a_single_batch_says_why(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        make_photo().convert("L").save(tmp_path / "photos" / f"{i}.png")
    with pytest.raises(DataError, match=r"Not one step.*3 were skipped.*is grey"):
        more = "--max_bad_fraction 1"
        run_here("autoencoder", tmp_path / "photos", tmp_path / "run", more)


def test_a_loss_that_is_not_finite_stops_the_run(photo_folder, tmp_path):
    message = r"diverged at step \d+ \(epoch \d+\): not finite (is|are) .*--learning_rate"
    with pytest.raises(TrainingError, match=message):
        more = "--learning_rate 1e30 --max_train_steps 40 --num_train_epochs 20"
        run_here("autoencoder", photo_folder, tmp_path, more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--data_files x.png", "either --dataset_name or --data_files"),
        ("--hub_epochs 2", "--push_to_hub"),
        ("--num_train_epochs 0", "--num_train_epochs is 0"),
        ("--width 0", "width"),
        ("--report_to wandb", "pip install wandb"),
        ("--seed -1", "--seed"),
        ("--n_critic 0", "--n_critic is 0"),
        ("--lambda_gp -1", "--lambda_gp is -1"),
        ("--critic_depth 5", "give 64 or more"),
        ("--streaming --lr_scheduler cosine", "--max_train_steps"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(more, message, photo_folder, tmp_path):
    with pytest.raises(OptionError, match=message):
        run_here("cwgan", photo_folder, tmp_path, more)


def test_a_checkpoint_of_other_options_is_not_resumed(photo_folder, tmp_path):
    run_here("cwgan", photo_folder, tmp_path, "--max_train_steps 1")
    again = "--max_train_steps 2 --resume_from_checkpoint latest"
    with pytest.raises(OptionError, match="seed = 0, not 1"):
        run_here("cwgan", photo_folder, tmp_path, f"{again} --seed 1")
    with pytest.raises(OptionError, match="does not fit these options"):
        run_here("cwgan", photo_folder, tmp_path, f"{again} --noise_dim 0")
    with pytest.raises(OptionError, match=r"fit these options \(critic_optimizer, generator_opti"):
        run_here("cwgan", photo_folder, tmp_path, f"{again} --optimizer adadelta")


def test_a_new_run_does_not_touch_another_s_checkpoints(photo_folder, tmp_path):
    run_here("autoencoder", photo_folder, tmp_path, "--max_train_steps 1")
    with pytest.raises(OptionError, match="holds checkpoints of another run"):
        run_here("autoencoder", photo_folder, tmp_path, "--max_train_steps 1")


def test_a_folder_without_splits_is_not_measured_on_itself(tmp_path):
    (tmp_path / "photos").mkdir()
    make_photo().save(tmp_path / "photos" / "a.png")
    with pytest.raises(OptionError, match="has no splits"):
        run_here("autoencoder", tmp_path / "photos", tmp_path / "run", "--validation_split test")


def test_a_run_starts_from_another_variant_s_weights(photo_folder, variant_folder, tmp_path):
    more = f"--max_train_steps 1 --init_from {variant_folder} --learning_rate 1e-9"
    output = run_here("cwgan", photo_folder, tmp_path / "run", more)
    assert torch.allclose(
        weights.load(output).head.weight, weights.load(variant_folder).head.weight, atol=1e-3
    )
    with pytest.raises(OptionError, match="another network"):
        run_here("autoencoder", photo_folder, tmp_path / "other", more)


def test_a_loss_that_does_not_fall_halves_the_learning_rate_as_keras_does(
    photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(Run, "epoch_mean", lambda *_: 1.0)
    more = "--patience 2 --num_train_epochs 6"
    rows = log_of(run_here("autoencoder", photo_folder, tmp_path, more))
    rates = {row["epoch"]: float(row["lr"]) for row in rows}  # the last of each epoch
    assert [rates[str(epoch)] for epoch in range(1, 7)] == [1e-3] * 3 + [5e-4] * 2 + [2.5e-4]


@pytest.mark.parametrize("answer", [404, 503])
def test_an_extractor_that_cannot_be_fetched_is_named_in_one_sentence(
    answer, hub_server, photo_folder, tmp_path, monkeypatch
):
    if answer == 503:
        hub_server.fault(status=503)
    words = f"--dataset_name {photo_folder} --output_dir {tmp_path} {COMMON} --width 4"
    monkeypatch.setattr(sys, "argv", ["fusion.py", *shlex.split(words)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train" / "fusion.py"), run_name="__main__")
    assert end.value.code.startswith("error: ")
    assert inception.WEIGHTS in end.value.code
    assert "\n" not in end.value.code


def test_mistakes_end_in_one_sentence_and_status_1(tmp_path):
    command = [sys.executable, str(ROOT / "train" / "autoencoder.py"), "--dataset_name", "absent"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: The train split of absent")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [] or [p.name for p in Path(tmp_path).iterdir()] == ["runs"]
