"""What a training script sets up before it begins."""

import subprocess
import sys

import pytest

KEPT = """
import sys, torch
from colorhub.launch import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "kept":
    keep_freed_memory()
before = resident()
large = torch.ones(64, 2**18)  # 64 MB
assert resident() - before > 50e6
del large
print(resident() - before > 50e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
@pytest.mark.parametrize(("how", "kept"), [("kept", "True"), ("as it is", "False")])
def test_freed_memory_is_kept_for_the_next_step(how, kept):
    done = subprocess.run([sys.executable, "-c", KEPT, how], capture_output=True, text=True)
    assert done.stdout.strip() == kept, done.stderr
