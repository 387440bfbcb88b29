"""A variant as an ONNX file: what people type, and what others then compute with the file."""

import importlib.util
import re

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT, TINY, make_generator, make_photo
from PIL import Image

from colorhub import Colorizer, OptionError, cards, weights
from colorhub.cli import main
from colorhub.export import export


def colorhub(*words):
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def colours(session, lightness):
    (ab,) = session.run(["ab"], {"lightness": lightness.numpy()})
    return torch.from_numpy(ab)


@pytest.fixture
def plain_folder(tmp_path):
    """The variant that is exported soonest."""
    folder = tmp_path / "plain"
    weights.save(make_generator("Autoencoder"), folder, mean_ab=(1.0, 2.0))
    return folder


@pytest.mark.parametrize("architecture", TINY)
def test_the_file_gives_the_colours_of_seed_0_at_any_size(architecture, tmp_path, capfd):
    weights.save(make_generator(architecture), tmp_path / "tiny", half=False)
    target = tmp_path / "new" / "tiny.onnx"
    assert colorhub("export", tmp_path / "tiny", "--output", target) == 0
    out, err = capfd.readouterr()
    assert str(target) in out and "largest difference" in out
    assert err == ""
    session, colorizer = open_session(target), Colorizer.from_pretrained(tmp_path / "tiny")
    batch = torch.rand(3, 1, 45, 37) * 2 - 1
    for lightness in (batch[:1], batch[1:2, :, :1, :1], batch[2:, :, :9, 4:], batch[:1, :, 3:, :8]):
        expected = colorizer(lightness)
        torch.testing.assert_close(colours(session, lightness), expected, rtol=0, atol=1e-5)
    alone = torch.cat([colours(session, lightness[None]) for lightness in batch])
    torch.testing.assert_close(colours(session, batch), alone, rtol=0, atol=1e-5)
    assert colours(session, batch).std() > 1e-4


def test_the_file_says_what_its_user_needs_and_nothing_of_the_machine(
    variant_folder, hub_server, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    words = ("publish", variant_folder, "--repo_id", "owner/tiny", "--revision", "epoch-40")
    assert colorhub(*words) == 0
    target = tmp_path / "tiny.onnx"
    assert colorhub("export", "owner/tiny@epoch-40", "--output", target) == 0
    session = open_session(target)
    assert session.get_modelmeta().custom_metadata_map == {
        "name": "owner/tiny@epoch-40",
        "revision": hub_server.repos["model", "owner/tiny"].tags["epoch-40"],
        "architecture": "ResUNet",
        "resolution": "32",
        "ab_gain": "100.0",
        "license": "training-data-states-none",
        "weights_sha256": weights.sha256(variant_folder / "model.safetensors"),
    }
    assert [each.shape for each in session.get_inputs()] == [["N", 1, "height", "width"]]
    assert [each.shape for each in session.get_outputs()] == [["N", 2, "height", "width"]]
    assert "`ab` times 100 are a* and b*" in session.get_modelmeta().description
    content = target.read_bytes()
    for word in (str(ROOT), str(tmp_path), "site-packages", ".py"):
        assert word.encode() not in content


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("natural", "--output", "x.png"), 2, "end it in .onnx"),
        (("natural", "--output", "x"), 2, "end it in .onnx"),
        (("natural", "--output", "folder.onnx"), 2, "is a folder"),
        (("natural", "--output", "x.onnx", "--format", "torch"), 2, "onnx"),
        (("natural",), 2, "--output"),
        (("natura", "--output", "x.onnx"), 1, "There is no variant 'natura'"),
        (("folder.onnx", "--output", "x.onnx"), 1, "is no colorhub variant"),
        (("plain", "--output", "plain/config.json/x.onnx"), 2, "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused(
    words, status, message, plain_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    assert colorhub("export", *words) == status
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("x*"))


def test_an_unknown_format_is_named(plain_folder, tmp_path):
    with pytest.raises(OptionError, match="Unknown format 'torch': choose onnx"):
        export(plain_folder, tmp_path / "x.onnx", format="torch")


def test_missing_packages_are_named_with_their_remedy(plain_folder, tmp_path, monkeypatch, capsys):
    there = importlib.util.find_spec
    missing = ("onnx", "onnxscript")
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name in missing else there(name, *more),
    )
    assert colorhub("export", plain_folder, "--output", tmp_path / "x.onnx") == 2
    message = "Export needs onnx, onnxscript: pip install 'colorhub[onnx]'"
    assert message in capsys.readouterr().err


def test_a_graph_with_other_colours_is_not_written(plain_folder, tmp_path, monkeypatch, capsys):
    target = tmp_path / "x.onnx"
    target.write_bytes(b"as it was")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("colorhub.export.TOLERANCE", 1e-12)
    assert colorhub("export", plain_folder, "--output", target) == 1
    assert "ONNX Runtime's ab differs from PyTorch's by" in capsys.readouterr().err
    assert target.read_bytes() == b"as it was"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")  # what sRGB cannot show is clipped
def test_the_example_of_the_documentation_colours_a_photo(plain_folder, tmp_path, monkeypatch):
    cards.write(plain_folder)
    monkeypatch.chdir(tmp_path)
    assert colorhub("export", plain_folder, "--output", "natural.onnx") == 0
    make_photo(90, 70).convert("L").save("photo.jpg", quality=95)
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    example = re.search(r"<!-- example -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    assert example is not None
    exec(compile(example[1], "docs/export.md", "exec"), {})
    expected = Colorizer.from_pretrained(plain_folder).colorize("photo.jpg")
    with Image.open("photo-color.jpg") as result:
        difference = np.abs(np.asarray(result, float) - np.asarray(expected, float))
    assert np.ptp(np.asarray(expected), axis=2).max() > 20
    assert difference.mean() < 4
