"""train/pix2pix.py under its four objectives, each step by step."""

import pytest
import torch
from test_train import assert_same_state, fresh_accelerate, last_state, log_of, run_here  # noqa: F401

from colorhub import weights
from colorhub.errors import OptionError
from colorhub.objectives import OBJECTIVES

RESUME = "--resume_from_checkpoint latest --max_train_steps"


def parts_of(output, network):
    return last_state(output)["parts"][network]


def changed(before, after):
    """Names of the weights that differ, running statistics left out."""
    return {
        name
        for name in before
        if "running" not in name
        and "num_batches" not in name
        and not torch.equal(before[name], after[name])
    }


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_and_resumes(objective, photo_folder, tmp_path):
    words = f"--objective {objective} --n_critic 2"
    whole = run_here("pix2pix", photo_folder, tmp_path / "whole", f"{words} --max_train_steps 4")
    parts = run_here("pix2pix", photo_folder, tmp_path / "parts", f"{words} --max_train_steps 2")
    before = {name: parts_of(parts, name) for name in ("generator", "critic")}
    run_here("pix2pix", photo_folder, parts, f"{words} {RESUME} 4")
    assert_same_state(last_state(whole), last_state(parts))
    assert log_of(whole) == log_of(parts)
    for name, each in before.items():
        assert len(changed(each, parts_of(parts, name))) > len(each) / 4, name
    assert weights.load(parts).config.width == 4
    rate = "5e-05" if objective == "wgan" else "0.0002"
    for row in log_of(parts):
        assert row["generator_lr"] == row["critic_lr"] == rate


def test_wgan_gives_the_critic_five_steps_for_one_and_clips_its_weights(photo_folder, tmp_path):
    words = "--objective wgan --clip 0.03"
    output = run_here("pix2pix", photo_folder, tmp_path, f"{words} --max_train_steps 1")
    first = parts_of(output, "generator"), parts_of(output, "critic")
    run_here("pix2pix", photo_folder, tmp_path, f"{words} {RESUME} 4")
    assert not changed(first[0], parts_of(output, "generator"))
    assert changed(first[1], parts_of(output, "critic"))
    run_here("pix2pix", photo_folder, tmp_path, f"{words} {RESUME} 5")
    assert changed(first[0], parts_of(output, "generator"))
    assert [bool(row["generator"]) for row in log_of(output)] == [False] * 4 + [True]
    for critic in (first[1], parts_of(output, "critic")):
        largest = max(
            each.abs().max().item()
            for name, each in critic.items()
            if "running" not in name and "num_batches" not in name
        )
        assert largest == pytest.approx(0.03)


def test_without_an_adversary_no_critic_is_trained(photo_folder, tmp_path):
    output = run_here("pix2pix", photo_folder, tmp_path, "--lambda_adv 0 --max_train_steps 1")
    before = last_state(output)["parts"]
    run_here("pix2pix", photo_folder, tmp_path, f"--lambda_adv 0 {RESUME} 3")
    after = last_state(output)["parts"]
    assert changed(before["generator"], after["generator"])
    for name, each in before["critic"].items():
        assert torch.equal(each, after["critic"][name]), name
    assert not {"critic", "real", "fake"} & {
        name for row in log_of(output) for name, value in row.items() if value
    }


def test_the_weights_of_the_losses_add_up(photo_folder, tmp_path):
    words = "--objective lsgan --lambda_l1 3 --lambda_l2 7 --lambda_adv 0 --max_train_steps 1"
    (row,) = log_of(run_here("pix2pix", photo_folder, tmp_path, words))
    total = 3 * float(row["l1"]) + 7 * float(row["l2"])
    assert float(row["generator"]) == pytest.approx(total, rel=1e-4)


def test_the_energy_critic_s_maps_are_told_apart_when_asked(photo_folder, tmp_path):
    rows = [
        log_of(
            run_here(
                "pix2pix",
                photo_folder,
                tmp_path / weight,
                f"--objective ebgan --lambda_pt {weight} --max_train_steps 1",
            )
        )[0]
        for weight in ("0", "2")
    ]
    without, repelled = (float(row["generator"]) for row in rows)
    assert 0 < repelled - without <= 2 + 1e-3  # a mean squared cosine


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--lambda_l1 0", "--lambda_l1 and --lambda_l2 are both 0"),
        ("--clip 0", "--clip is 0.0; it must be more than 0"),
        ("--critic_depth 3", "--resolution 16 is too small for --critic_depth 3: give 24 or more"),
        ("--n_critic -1", "--n_critic is -1"),
        ("--objective ebgan --margin 0", "--margin is 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(more, message, photo_folder, tmp_path):
    with pytest.raises(OptionError, match=message):
        run_here("pix2pix", photo_folder, tmp_path, f"{more} --max_train_steps 1")
