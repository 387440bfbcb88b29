"""Sentences to pictures, as people type them: painter, command, tab."""

import json
from itertools import pairwise

import pytest
import torch
from PIL import Image

from colorhub import NotFoundError, OptionError, VariantError, cards, weights
from colorhub.cli import main
from colorhub.conditioning import CHANCE
from colorhub.generators import KINDS, Text2Image
from colorhub.hub import local_variants
from colorhub.painting import strip
from colorhub.vocabulary import WORDS, Vocabulary, tokens
from colorhub.words import Painter

VOCABULARY = "a photo of flower red blue yellow rose bee balm colt's globe-flower"


def make_network(**changes):
    """A tiny network with random weights, the same each time, whose words differ."""
    settings = {"resolution": 16, "width": 4, "maps": 3, "noise_dim": 2} | changes
    torch.manual_seed(0)
    network = Text2Image(Text2Image.Config(**settings, vocabulary=VOCABULARY))
    network.vectors[1:] = torch.randn(len(VOCABULARY.split()), 400)
    return network.eval()


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    """A variant of this name in the folder of variants."""
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))
    folder = tmp_path / "variants" / "tiny-words"
    weights.save(make_network(), folder)
    return folder


def same(one, two):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))


def test_words_are_found_in_what_people_write():
    assert tokens(
        "A photo, of a RED “rose”! (Colt\N{RIGHT SINGLE QUOTATION MARK}s globe-flower)\n2 - 3"
    ) == [*("a", "photo", "of", "a", "red", "rose", "colt's", "globe-flower", "2", "3")]
    assert tokens(" …  ") == []


def test_a_sentence_is_the_numbers_of_its_known_words_at_the_end():
    vocabulary = Vocabulary(["red", "rose"])
    assert vocabulary.ids(vocabulary.known("A red, red rose.")) == [0] * 22 + [1, 1, 2]
    assert vocabulary.unknown("tulips, a red tulips") == ["tulips", "a"]
    assert vocabulary.ids(vocabulary.known("rose " * 40)) == [2] * WORDS


def test_a_variant_comes_back_with_its_words(tmp_path):
    network = make_network(resolution=24, maps=5, noise_dim=0)
    weights.save(network, tmp_path, half=False)
    again = weights.load(tmp_path, KINDS["text"])
    assert again.config == network.config and again.config.vocabulary == VOCABULARY
    assert torch.equal(again.vectors, network.vectors)
    words = torch.tensor([[0] * 23 + [5, 8]])
    torch.testing.assert_close(again(words), network(words))


def test_a_network_starts_from_one_of_fewer_pixels():
    small, large = make_network(), make_network(resolution=32)
    large.load_state_dict(small.state_dict())
    assert torch.equal(large.memory.gates.weight, small.memory.gates.weight)
    torch.testing.assert_close(  # of each channel, over its places
        large.project.weight.unflatten(0, (16, -1)).mean(1),
        small.project.weight.unflatten(0, (16, -1)).mean(1),
    )
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_network(maps=4).load_state_dict(small.state_dict())


def test_a_picture_a_word_and_blanks_before_them():
    network = make_network()
    short, long = [0] * 23 + [5, 8], [0] * 21 + [1, 2, 5, 8]
    noise = torch.randn(2, 2)
    together = network(torch.tensor([short, long]), noise)
    assert together.shape == (2, WORDS, 3, 16, 16) and together.abs().max() <= 1
    alone = network(torch.tensor([short]), noise[:1])
    torch.testing.assert_close(alone[0], together[0])  # whatever stands beside it
    blank = together[0, 0]
    assert all(torch.equal(blank, picture) for picture in together[0, :21])
    torch.testing.assert_close(blank, together[0, 22])
    pictures = together[1, 21:]
    assert all((a - b).abs().max() > 1e-4 for a, b in pairwise(pictures))


def test_the_same_sentence_and_seed_give_the_same_pictures(flowers):
    painter = Painter.from_pretrained("tiny-words", device="cpu")
    pictures = painter.paint("a photo of a red rose flower", seed=3)
    assert len(pictures) == WORDS and {each.size for each in pictures} == {(16, 16)}
    again = Painter.from_pretrained(flowers, device="cpu")
    assert same(pictures, again.paint("A photo of a red rose flower!", seed=3))
    assert not same(pictures[-1:], painter.paint("a photo of a red rose flower", seed=4)[-1:])
    assert not same(pictures[-1:], painter.paint("a photo of a blue rose flower", seed=3)[-1:])


def test_unknown_words_are_named_and_passed_over(flowers):
    painter = Painter.from_pretrained("tiny-words", device="cpu")
    pictures = painter.paint("a Tulip of red")
    assert painter.heard.words == ("a", "of", "red") and painter.heard.unknown == ("tulip",)
    assert "tulip" in painter.heard.warning()
    assert same(pictures, painter.paint("a of red")) and painter.heard.warning() == ""
    painter.paint("red " * 24 + "blue yellow rose")
    assert painter.heard.left_out == ("yellow", "rose")
    assert "left out: yellow, rose" in painter.heard.warning()
    with pytest.raises(OptionError, match=r"None of these words is known: tulip, tree\. Known"):
        painter.paint("tulip tree")
    with pytest.raises(OptionError, match=r"There is no word\. Known are"):
        painter.paint(" ... ")
    with pytest.raises(OptionError, match="--seed is -1"):
        painter.paint("red", seed=-1)


def test_the_command_paints(flowers, tmp_path, capsys):
    one, row = tmp_path / "one.png", tmp_path / "row.png"
    words = ["a red tulip rose", "--variant", "tiny-words", "--device", "cpu", "--output"]
    assert main(["paint", *words, str(one)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(one) and "Unknown, and passed over: tulip." in said.err
    assert main(["paint", *words, str(row), "--all_words", "--seed", "0"]) == 0
    painter = Painter.from_pretrained(flowers, device="cpu")
    pictures = painter.paint("a red rose")
    with Image.open(one) as picture, Image.open(row) as wide:
        assert picture.tobytes() == pictures[-1].tobytes()
        assert wide.tobytes() == strip(pictures, painter.heard.words).tobytes()
        assert wide.width == 3 * 64 + 2 * 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["tulip", "--variant", "tiny-words"], 2, "None of these words is known: tulip."),
        (["red", "--variant", "absent"], 1, "There is no variant 'absent'"),
        (["red", "--variant", "cwgan"], 1, "kind photo"),
        (["red", "--variant", "tiny-words", "--seed", "-3"], 2, "--seed is -3"),
    ],
)
def test_what_cannot_be_painted_is_said_and_nothing_is_written(
    words, status, message, flowers, tmp_path, capsys
):
    assert main(["paint", *words, "--output", str(tmp_path / "x.png")]) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
    assert main(["paint", "red", "--variant", "tiny-words", "--output", str(tmp_path / "x")]) == 1


def test_variants_of_other_kinds_are_told_apart(flowers, variant_folder, capsys):
    assert main(["variants"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["tiny-words", "text", "local"] for line in lines)
    with pytest.raises(VariantError, match="kind photo"):
        Painter.from_pretrained(variant_folder)
    with pytest.raises(NotFoundError):
        Painter.from_pretrained("absent")
    assert main(["colorize", "x.png", "--output", "y.png", "--variant", "tiny-words"]) == 1


BUNDLED = [variant.folder for variant in local_variants("text").values()]


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_every_bundled_variant_is_whole_and_its_card_is_current(folder):
    network = weights.load(folder, KINDS["text"])
    assert Painter(network, device="cpu").listen("a photo of a red rose").unknown == ()
    assert (folder / "model.safetensors").stat().st_size <= 12e6
    results = json.loads((folder / "results.json").read_text())
    assert results["weights_sha256"] == weights.sha256(folder / "model.safetensors")
    (row,) = results["tables"][0]["rows"]
    assert int(row[1].rstrip("%")) / 100 >= 3 * CHANCE
    before = (folder / "README.md").read_text()
    assert "made by rule" in before and "None" not in before
    cards.write(folder)
    assert (folder / "README.md").read_text() == before


def test_flowers_is_bundled():
    assert "flowers" in local_variants("text") and "flowers" not in local_variants()
