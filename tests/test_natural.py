"""train/natural.py: every loss that it offers, and where its encoder starts from."""

import math

import pytest
import safetensors.torch
import torch
from test_encoders import folded
from test_train import (
    fresh_accelerate,  # noqa: F401  (every run in this process is one of its own)
    last_state,
    log_of,
    run_here,
)

from colorhub import Colorizer, NotFoundError, OptionError, weights

STEPS = "--max_train_steps 2"
PLAIN = {"step", "epoch", "lr", "generator"}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone") / "net.safetensors"
    safetensors.torch.save_file(folded("mobilenet_v2_100"), path)
    return path


def test_the_encoder_starts_from_the_backbone(backbone, photo_folder, tmp_path):
    more = f"--backbone {backbone} --max_train_steps 1 --learning_rate 1e-9 --weight_decay 0"
    output = run_here("natural", photo_folder, tmp_path, more)
    published, given = weights.load(output).encoder, safetensors.torch.load_file(backbone)
    torch.testing.assert_close(
        published.stem[0].weight, given["layer00.weight"].sum(1, keepdim=True), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        published.stem[1].weight, given["layer01.weight"], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("more", "columns"),
    [
        ("--noise_dim 0 --lambda_feature 0.1 --teacher {backbone}", {"l1", "features"}),
        ("--head classification --noise_dim 0", {"classes"}),
        ("--head classification --noise_dim 0 --no-rebalance", {"classes"}),
        ("--queries 4", {"l1", "spread"}),
        ("--lambda_colorfulness 0.5", {"l1", "spread", "lacking"}),
        ("--lambda_feature 0.1 --backbone {backbone}", {"l1", "spread", "features"}),
        (
            "--lambda_adv 0.1 --critic_width 4 --critic_depth 2",
            {"l1", "spread", "critic", "critic_lr"},
        ),
        (
            "--lambda_adv 0.1 --objective wgan --critic_width 4 --critic_depth 2",
            {"l1", "spread", "critic", "critic_lr"},
        ),
        ("--resolution 17 --ab_gain 90", {"l1", "spread"}),
        ("--resolution 18 --head classification --noise_dim 0", {"classes"}),
        ("--encoder mobilenet_edgetpu_075 --aged 1", {"l1", "spread"}),
    ],
)
def test_every_loss_trains(more, columns, backbone, photo_folder, tmp_path):
    more = more.format(backbone=backbone)
    output = run_here("natural", photo_folder, tmp_path, f"{more} {STEPS}")
    rows = log_of(output)
    assert [row["step"] for row in rows] == ["1", "2"]
    for row in rows:
        assert set(row) == PLAIN | columns | ({"critic_lr"} & set(row))
        assert all(math.isfinite(float(value)) for value in row.values())
    colorizer = Colorizer.from_pretrained(output, device="cpu")
    assert colorizer.knows_uncertainty == ("--noise_dim 0" not in more or "class" in more)


def test_a_warm_up_rises_evenly_and_the_encoder_learns_more_slowly(photo_folder, tmp_path):
    more = "--max_train_steps 5 --lr_warmup_steps 4 --learning_rate 0.001 --encoder_rate 0.2"
    output = run_here("natural", photo_folder, tmp_path, more)
    rates = [float(row["lr"]) for row in log_of(output)]
    # The row of a step has the rate of the next.
    assert rates == pytest.approx([0.0005, 0.00075, 0.001, 0.001, 0.001])
    groups = last_state(output)["parts"]["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.0002])


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ("--head classification", OptionError, "takes no noise: give --noise_dim 0"),
        ("--aged 1.5", OptionError, "--aged is a share"),
        ("--max_zoom 0.9", OptionError, "--max_zoom 1 or more"),
        ("--encoder resnet50", OptionError, "mobilenet_v2_100"),
        ("--lambda_feature 0.1", OptionError, "needs a --teacher or a --backbone"),
        ("--backbone absent.safetensors", NotFoundError, "no backbone 'absent.safetensors'"),
        (
            "--encoder mobilenet_edgetpu_075 --backbone {backbone}",
            OptionError,
            "another network|layers",
        ),
    ],
)
def test_options_of_natural_that_make_no_sense_are_refused(
    more, error, message, backbone, photo_folder, tmp_path
):
    with pytest.raises(error, match=message):
        run_here("natural", photo_folder, tmp_path, more.format(backbone=backbone))


def test_worker_processes_make_the_aged_crops(photo_folder, tmp_path):
    """The same photos, aged alike, as without workers: the same losses."""
    folders = [tmp_path / str(workers) for workers in (0, 1)]
    for workers, folder in enumerate(folders):
        more = f"--aged 1 {STEPS} --dataloader_num_workers {workers}"
        run_here("natural", photo_folder, folder, more)
    alone, helped = (log_of(folder) for folder in folders)
    assert [row["generator"] for row in alone] == [row["generator"] for row in helped]
