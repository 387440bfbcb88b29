"""The tab of models: cards, losses, and colours epoch by epoch."""

import threading

import pytest
from conftest import make_generator, make_photo

from colorhub import cards, hub, weights
from colorhub.errors import HubError, NotFoundError, OptionError

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
learn = pytest.importorskip("colorhub.learn")


@pytest.fixture
def variants(tmp_path, monkeypatch):
    folder = tmp_path / "variants" / "tiny"
    weights.save(make_generator(), folder, mean_ab=(1.0, 2.0))
    cards.write(folder)
    (folder / "training_log.csv").write_text("step,epoch,l1,generator_lr\n1,1,2.5,0.1\n2,1,1.5,\n")
    (folder / "samples").mkdir()
    make_photo().save(folder / "samples" / "epoch-001.png")
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(folder.parent))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return folder


def test_a_card_is_shown_without_what_only_the_hub_reads(variants):
    for name in ("tiny", "natural"):
        text = learn.card(name)
        assert "pipeline_tag" not in text and "](samples/" not in text and "# " in text
    assert "no card" in learn.card("nobody")


def test_losses_are_told_by_step_without_rates(variants):
    assert learn.losses("tiny").to_dict("records") == [
        {"step": 1, "loss": "l1", "value": 2.5},
        {"step": 2, "loss": "l1", "value": 1.5},
    ]
    assert len(learn.losses("nobody")) == 0
    assert len(learn.samples("tiny")) == 1 and learn.samples("nobody") == []
    assert len(learn.losses("natural")) > 100


def test_epochs_come_in_order_and_each_colours_the_photo(
    variants, hub_server, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    hub.create("owner/tiny")
    for tag in ("epoch-10", "epoch-2"):
        hub.publish(variants, "owner/tiny", revision=tag)
    assert learn.epochs(" owner/tiny ") == ["epoch-2", "epoch-10"]
    (tmp_path / "uploads").mkdir(exist_ok=True)
    make_photo().convert("L").save(tmp_path / "uploads" / "photo.png")
    upload = {"path": str(tmp_path / "uploads" / "photo.png")}
    for place in (1, 2):
        _, said = learn._at(upload, "owner/tiny", learn.epochs("owner/tiny"), place)
        assert f">{('epoch-2', 'epoch-10')[place - 1]}.<" in said
    _, said = learn._at(None, "owner/tiny", ["epoch-2"], 1)
    assert "Choose a photo first" in said


@pytest.mark.parametrize("name", ["", "../..", "http://evil/x", "a/b/c", "owner/name@main"])
def test_only_names_of_repositories_are_asked_for(name):
    with pytest.raises(OptionError, match="owner/name"):
        learn.epochs(name)


def test_a_repository_that_is_not_there_is_one_sentence(hub_server):
    with pytest.raises(NotFoundError, match="no such repository"):
        learn.epochs("owner/absent")


def test_a_hub_that_never_answers_is_one_sentence(hub_server, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    monkeypatch.setattr(hub.HfApi, "list_repo_refs", lambda self, name: released.wait(30))
    with pytest.raises(HubError, match="Try again later"):
        learn.epochs("owner/tiny")
    released.set()


def test_the_study_puts_those_measured_on_the_same_photos_into_one_table(variants):
    table = learn.study()
    assert table.startswith("| variant | MB | PSNR")
    assert "| natural |" in table and "| pix2pix-lsgan-l1 |" in table and "tiny" not in table
