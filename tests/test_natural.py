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
ONE_STEP = "--max_train_steps 1 --lr_warmup_steps 1"
PLAIN = {"step", "epoch", "lr", "generator"}
OTHERS = {"others", "scale"}


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
        (
            "--alternatives 0 --lambda_feature 0.1 --lambda_distill 1 --teacher {backbone}",
            {"l1", "distill", "features"},
        ),
        ("--head classification --alternatives 0", {"classes"}),
        ("--head classification --alternatives 0 --no-rebalance", {"classes"}),
        ("--queries 0", {"l1", *OTHERS}),
        ("--lambda_colorfulness 0.5", {"l1", *OTHERS, "lacking"}),
        ("--lambda_distill 1 --backbone {backbone}", {"l1", *OTHERS, "distill"}),
        ("--lambda_feature 0.1 --backbone {backbone}", {"l1", *OTHERS, "features"}),
        (
            "--lambda_adv 0.1 --critic_width 4 --critic_depth 2",
            {"l1", *OTHERS, "critic", "critic_lr"},
        ),
        (
            "--lambda_adv 0.1 --objective wgan --critic_width 4 --critic_depth 2",
            {"l1", *OTHERS, "critic", "critic_lr"},
        ),
        ("--resolution 17 --ab_gain 90", {"l1", *OTHERS}),
        ("--resolution 18 --head classification --alternatives 0", {"classes"}),
        ("--encoder mobilenet_edgetpu_075 --aged 1", {"l1", *OTHERS}),
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
    assert colorizer.has_alternatives == (columns >= OTHERS)
    assert colorizer.knows_uncertainty == (columns >= OTHERS or "classes" in columns)


def test_the_alternatives_and_the_scale_do_not_move_the_likeliest_colours(photo_folder, tmp_path):
    """Whatever they weigh, the first step of the likeliest colours' layer is the same."""
    light, heavy = (
        run_here("natural", photo_folder, tmp_path / weight, f"{ONE_STEP} --lambda_spread {weight}")
        for weight in ("0.1", "1000")
    )
    light, heavy = (last_state(output)["parts"]["generator"] for output in (light, heavy))
    for name in ("mean.weight", "mean.bias"):
        assert torch.equal(light[name], heavy[name])
    assert not torch.equal(light["decoder.3.0.weight"], heavy["decoder.3.0.weight"])


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
        ("--head classification", OptionError, "has no --alternatives: give 0"),
        ("--lambda_spread 0", OptionError, "--alternatives need --lambda_spread above 0"),
        ("--aged 1.5", OptionError, "--aged is 1.5"),
        ("--max_zoom 0.9", OptionError, "--max_zoom 0.9"),
        ("--encoder resnet50", OptionError, "mobilenet_v2_100"),
        ("--lambda_feature 0.1", OptionError, "need a --teacher or a --backbone"),
        ("--lambda_distill 0.1", OptionError, "need a --teacher or a --backbone"),
        ("--crop_size 3", OptionError, "--crop_size is 3"),
        ("--encoder_rate -1", OptionError, "--encoder_rate -1.0"),
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
