import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import TINY, make_generator
from safetensors.torch import load_file, save_file

from colorhub import weights
from colorhub.errors import VariantError


@pytest.fixture
def folder(tmp_path):
    weights.save(make_generator(), tmp_path / "variant", mean_ab=(1.0, 2.0))
    return tmp_path / "variant"


def change_weights(folder, change, *, checksum=False):
    """Rewrite the weights; with `checksum` as someone would who knows the format."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    if checksum:
        change_config(folder, weights_sha256=weights.sha256(path))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_network_comes_back_the_same(tiny_generator, tmp_path):
    lightness = torch.rand(2, 1, 33, 18) * 2 - 1
    inputs = {"ResUNet": {"noise": torch.randn(2, 2)}, "MobileUNet": {"choice": 2}}
    extra = inputs.get(type(tiny_generator).__name__, {})
    weights.save(tiny_generator, tmp_path, half=False)
    again = weights.load(tmp_path)
    assert again.config == tiny_generator.config
    with torch.no_grad():
        torch.testing.assert_close(
            again(lightness, **extra), tiny_generator(lightness, **extra), rtol=0, atol=0
        )


def test_weights_are_fp16_on_disk_and_fp32_in_memory(folder):
    stored = load_file(folder / "model.safetensors")
    assert stored["head.weight"].dtype == torch.float16
    assert weights.load(folder).head.weight.dtype == torch.float32


def remove(name):
    return lambda tensors: tensors.pop(name)


def put(name, value):
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("head.weight"), "missing head.weight"),
        (put("evil", torch.zeros(1)), "not expected evil"),
        (put("head.weight", torch.zeros(2, 4)), "wrong shape"),
        (put("head.bias", torch.zeros(2, dtype=torch.int32)), "wrong number type"),
        (put("head.bias", torch.tensor([0.0, float("nan")])), "not finite"),
        (put("head.bias", torch.tensor([0.0, float("inf")])), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, message, checksum):
    change_weights(folder, change, checksum=checksum)
    with pytest.raises(VariantError, match=message):
        weights.load(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VariantError, match="truncated"):
        weights.load(folder)
    path.write_bytes(b"abcd")
    with pytest.raises(VariantError, match="truncated"):
        weights.load(folder)


def test_a_flipped_bit_is_noticed(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(VariantError, match="corrupted"):
        weights.load(folder)


def test_a_pickle_is_never_opened(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(VariantError, match=r"no model\.safetensors"):
        weights.load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(VariantError, match="pickle"):
        weights.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format 2.*pip install --upgrade"),
        ({"architecture": "Diffusion"}, "unknown architecture 'Diffusion'"),
        ({"network": {"width": 4}}, "missing or unknown settings"),
        ({"weights_sha256": None}, "corrupted"),
        ({"architecture": []}, "unknown architecture"),
        ({"network": None}, "how the network is built"),
        ({"mean_ab": 3}, "mean_ab"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(VariantError, match=message):
        weights.load(folder)


@pytest.mark.parametrize("value", ["4", None, 4.5, True, 0, -1])
def test_a_setting_that_makes_no_network_is_refused(folder, value):
    network = json.loads((folder / "config.json").read_text())["network"]
    change_config(folder, network=network | {"width": value})
    with pytest.raises(VariantError, match=r"config\.json"):
        weights.load(folder)


def test_an_unreadable_or_missing_configuration_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(VariantError, match="not a configuration"):
        weights.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(VariantError, match=r"no config\.json"):
        weights.load(folder)


def test_a_diverged_network_is_not_saved_over_a_good_one(folder):
    before = (folder / "model.safetensors").read_bytes()
    generator = make_generator()
    generator.head.bias.data[0] = 1e6  # beyond half precision
    with pytest.raises(VariantError, match="not finite"):
        weights.save(generator, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(VariantError, match="cannot be written"):
        weights.save(make_generator(), tmp_path / "file" / "below")
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_loading_does_not_load_torch_s_compiler(tmp_path):
    for architecture in TINY:
        weights.save(make_generator(architecture), tmp_path / architecture)
    code = (
        "import sys; from pathlib import Path; from colorhub import weights\n"
        "for folder in Path(sys.argv[1]).iterdir(): weights.load(folder)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
