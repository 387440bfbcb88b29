"""What is kept in memory, and for how long; and the GPU that comes and goes."""

import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from conftest import make_generator
from torch import nn

from colorhub import memory
from colorhub.errors import OptionError
from colorhub.gpu import on_gpu
from colorhub.memory import Kept, limit_of_machine, network_bytes


class Maker:
    """Makes strings of a size and remembers of which keys."""

    def __init__(self, kept: Kept[str]) -> None:
        self.kept, self.made = kept, ""

    def get(self, key: str, size: int = 1) -> str:
        def make() -> str:
            self.made += key
            return key * size

        return self.kept.get(key, make, len)


def test_what_was_used_last_is_kept_up_to_the_limit():
    maker = Maker(Kept(3))
    for key in "abc":
        maker.get(key)
    maker.get("a")  # now b has not been used for longest
    maker.get("d")
    assert maker.made == "abcd"
    assert [key for key in "abcd" if key in maker.kept] == ["a", "c", "d"]
    maker.get("e", 2)
    assert [key for key in "abcde" if key in maker.kept] == ["d", "e"]
    assert maker.kept.bytes == 3
    maker.kept.clear()
    assert maker.kept.bytes == 0 and maker.get("e", 2) == "ee"


def test_what_is_larger_than_the_limit_is_used_and_not_kept():
    maker = Maker(Kept(3))
    maker.get("a")
    assert maker.get("b", 4) == "bbbb"
    assert "b" not in maker.kept and "a" in maker.kept
    maker.get("b", 4)
    assert maker.made == "abb"


def test_who_asks_at_the_same_time_gets_the_same_made_once():
    kept: Kept[object] = Kept(10)
    made: list[object] = []
    barrier = threading.Barrier(8)

    def make() -> object:
        time.sleep(0.2)
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        barrier.wait()
        return kept.get("a", make, lambda _: 1)

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(ask, range(8)))
    assert len(made) == 1 and set(given) == set(made)


def test_different_keys_do_not_wait_for_each_other():
    kept: Kept[str] = Kept(10)
    met = threading.Barrier(2, timeout=5)  # breaks if one is made after the other

    def ask(key: str) -> str:
        return kept.get(key, lambda: f"{key}{met.wait() * 0}", len)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, "ab")) == ["a0", "b0"]


def test_an_error_goes_to_all_who_wait_and_is_not_kept():
    kept: Kept[str] = Kept(10)
    started = threading.Event()

    def fail() -> str:
        started.set()
        time.sleep(0.2)
        raise OSError("no such file")

    def wait() -> str:
        started.wait()
        return kept.get("a", lambda: pytest.fail("it was made twice"), len)

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(kept.get, "a", fail, len), pool.submit(wait), pool.submit(wait)]
    assert [str(each.exception()) for each in asked] == ["no such file"] * 3
    assert kept.get("a", lambda: "a", len) == "a"
    with pytest.raises(ZeroDivisionError):  # a size that cannot be told is an error like others
        kept.get("b", lambda: "b", lambda _: 1 // 0)
    assert "b" not in kept and kept.get("b", lambda: "b", len) == "b"


def test_many_threads_never_pass_the_limit():
    kept: Kept[str] = Kept(10)

    def work(number: int) -> None:
        for step in range(200):
            key = "abcdefg"[(number + step) % 7]
            assert kept.get(key, partial(str.__mul__, key, 1 + ord(key) % 5), len)[0] == key
            assert kept.bytes <= 15  # one may have come whose forerunners are just let go

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert kept.bytes == sum(len(value) for value, _ in kept._kept.values()) <= 10
    assert not kept._coming


def test_a_network_takes_what_its_parameters_and_buffers_take():
    layer = nn.BatchNorm1d(4)  # weight, bias, mean, variance of 4 bytes each; one count of 8
    assert network_bytes(layer) == 4 * 4 * 4 + 8
    assert network_bytes(nn.Sequential(layer, layer)) == 4 * 4 * 4 + 8
    generator = make_generator()
    assert network_bytes(generator.half()) < network_bytes(generator.float())
    assert network_bytes(nn.Linear(2, 3, bias=False).to(torch.float64)) == 48


def test_the_limit_is_what_the_variable_says_or_a_share_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("COLORHUB_MEMORY_MB", "1500")
    assert limit_of_machine() == 1_500_000_000
    for odd in ("much", "-1", "0", "1.5", "²"):
        monkeypatch.setenv("COLORHUB_MEMORY_MB", odd)
        with pytest.raises(OptionError, match="COLORHUB_MEMORY_MB"):
            limit_of_machine()
    monkeypatch.setenv("COLORHUB_MEMORY_MB", "")
    assert 256 * 10**6 <= limit_of_machine() <= 4096 * 10**6
    for machine, share in ((0, 256), (16 * 10**9, 2000), (10**12, 4096)):
        monkeypatch.setattr(memory, "_available", lambda machine=machine: machine)
        assert limit_of_machine() == share * 10**6


def test_a_container_s_memory_counts(tmp_path):
    group = tmp_path / "memory.max"
    machine = memory._available(group)
    group.write_text("max\n")
    assert memory._available(group) == machine
    group.write_text("1000000\n")
    assert memory._available(group) == 1_000_000


def test_the_limit_is_asked_for_when_something_is_kept(monkeypatch):
    monkeypatch.setenv("COLORHUB_MEMORY_MB", "much")
    maker = Maker(Kept())  # importing the app must not fail
    with pytest.raises(OptionError):
        maker.get("a")
    monkeypatch.setenv("COLORHUB_MEMORY_MB", "1")
    maker.get("a")
    maker.get("b", 1_000_000)
    assert "a" not in maker.kept and "b" in maker.kept


def test_only_a_space_has_a_gpu_that_comes_and_goes(monkeypatch):
    def double(number: int) -> int:
        return 2 * number

    monkeypatch.setitem(sys.modules, "spaces", None)
    assert on_gpu(double) is double
    asked: dict[str, object] = {}

    def decorator(**options: object) -> object:
        asked.update(options)
        return lambda function: lambda number: function(number) + 1

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=decorator))
    assert on_gpu(double)(3) == 7 and set(asked) == {"duration"}
