"""Training outlives what befalls machines: kill -9, full disks, a worker or a host that dies."""

import contextlib
import os
import random
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from functools import cache
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import ROOT, make_photo
from test_train import arguments, assert_same_state, last_state, log_of

from colorhub import checkpoints

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
TORCHRUN = ["-m", "torch.distributed.run", "--monitor_interval", "0.1"]
TWO = [*TORCHRUN, "--standalone", "--nproc_per_node", "2"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
STEPS_AN_EPOCH = 4  # of four photos, whoever takes them
PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def photos(photo_folder, tmp_path_factory):
    """Sixteen photos to train on, and four that are broken or grey."""
    folder = tmp_path_factory.mktemp("flawed")
    shutil.copytree(photo_folder / "train", folder / "train")
    (folder / "train" / "030.png").write_bytes(b"broken")
    (folder / "train" / "070.png").write_bytes((folder / "train" / "07.png").read_bytes()[:300])
    for name in ("071.png", "150.png"):
        make_photo().convert("L").save(folder / "train" / name)
    return folder


def words(photos, output, *more, processes=1):
    """A training script's, with all that a resumed run might get wrong."""
    options = (
        f"--train_batch_size {2 // processes} --gradient_accumulation_steps 2 --ema_decay 0.9 "
        "--checkpointing_steps 1 --logging_steps 3 --max_bad_fraction 0.3 "
        f"--dataloader_num_workers 1 --validation_images {photos / 'train' / '00.png'} "
    )
    script = str(ROOT / "train" / "cwgan.py")
    return [script, *arguments("cwgan", photos, output, options + " ".join(more))]


class Family:
    """A command's process and all that come of it, known by a mark in their environment.

    Workers of torchrun are in sessions of their own, so no process group holds them all.
    """

    def __init__(self, command, *, stderr, cwd=ROOT, **environment):
        self.name = uuid.uuid4().hex
        environment |= {"COLORHUB_TEST_FAMILY": self.name, "HF_HUB_OFFLINE": "1"}
        self.stderr = stderr
        with open(stderr, "w") as file:
            self.head = subprocess.Popen(
                command, cwd=cwd, env=os.environ | environment, stdout=file, stderr=file
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def members(self):
        """Process ids of those alive."""
        mark = f"COLORHUB_TEST_FAMILY={self.name}".encode()
        return [int(each.parent.name) for each in Path("/proc").glob("[0-9]*/environ")
                if mark in _read(each).split(b"\0")]  # fmt: skip

    def workers(self):
        """Process ids of the training processes that the launcher has started."""
        return [pid for pid in self.members() if _parent(pid) == self.head.pid]

    def kill(self):
        """Kill all of them by signal 9; whether the command had not ended yet."""
        running = self.head.poll() is None
        while members := self.members():
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.head.wait()
        return running

    def wait_for(self, happened):
        """Until it has happened or the command has ended."""
        deadline = time.monotonic() + PATIENCE
        while not happened() and self.head.poll() is None:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def said(self):
        return self.stderr.read_text()

    def status(self):
        """The command's, when it has ended and nothing is left of it."""
        status = self.head.wait(PATIENCE)
        deadline = time.monotonic() + 15
        while left := self.members():
            assert time.monotonic() < deadline, [
                _read(Path(f"/proc/{pid}/cmdline")) for pid in left
            ]
            time.sleep(0.01)
        return status


def _read(path):
    try:
        return path.read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def _parent(pid):
    return int(_read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[1] or 0)


def step_of(output):
    """Of the newest checkpoint, 0 before the first."""
    path = checkpoints.latest(output / "checkpoints")
    return checkpoints.step_of(path) if path else 0


def assert_same_run(one, two):
    """To the last bit of all that is published or gone on from."""
    assert_same_state(last_state(one), last_state(two))
    assert log_of(one) == log_of(two)
    for name in ("model.safetensors", "config.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert samples_of(one) == samples_of(two)
    skipped = [sorted((each / "skipped.txt").read_text().splitlines()) for each in (one, two)]
    assert skipped[0] == skipped[1]
    for each in (one, two):
        assert not list(each.rglob(".*")) and not list(each.rglob("*.part"))


def samples_of(output):
    return {path.name: path.read_bytes() for path in (output / "samples").iterdir()}


@pytest.fixture(scope="module")
def unbroken(photos, tmp_path_factory):
    """By the number of processes and of epochs, the folder of a run that nothing befell."""

    @cache
    def run(processes, epochs):
        folder = tmp_path_factory.mktemp("unbroken")
        more = words(photos, folder / "run", f"--num_train_epochs {epochs}", processes=processes)
        if processes == 1:
            assert end_of(more) is None
        else:
            with Family([sys.executable, *TWO, *more], stderr=folder / "said") as family:
                assert family.status() == 0, family.said()
        return folder / "run"

    return run


SAVER = """
import os, sys, torch
from pathlib import Path
from colorhub import checkpoints

folder, parent = Path(sys.argv[1]), os.getpid()
for line in sys.stdin:  # the number of the save to begin with
    if not (child := os.fork()):
        number = int(line)
        while os.getppid() == parent:
            state = {"number": number, "x": [torch.full((40_000,), number) for _ in range(5)]}
            checkpoints.save(folder, number // 3, state, keep=2)
            os.write(1, f"{number}\\n".encode())
            number += 1
        os._exit(0)
    os.write(1, f"child {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


def test_a_checkpoint_is_whole_whenever_its_writer_is_killed(tmp_path):
    """Fifty times; each step is saved three times, so that most saves replace a checkpoint."""
    folder = tmp_path / "checkpoints"
    number, moment = 0, random.Random(0)
    saver = subprocess.Popen(
        [sys.executable, "-c", SAVER, folder], cwd=ROOT, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with saver, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(saver.kill)
        for kill in range(50):
            saver.stdin.write(f"{number}\n")
            child, told = None, number - 1
            while child is None or told < number:
                child, told = hear(saver, child, told)
            time.sleep(moment.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            while child:
                child, told = hear(saver, child, told)
            for path in folder.glob("checkpoint-*"):
                state = checkpoints.load(path)
                number = state["number"]
                assert checkpoints.step_of(path) == number // 3
                assert all(len(x) == 40_000 and (x == number).all() for x in state["x"])
            number = checkpoints.load(checkpoints.latest(folder))["number"]
            assert number in (told, told + 1)
            number += 1
            if kill % 5 == 4:
                state = {"number": number, "x": [torch.full((40_000,), number)]}
                checkpoints.save(folder, number // 3, state, keep=2)
                names = {f"checkpoint-{number // 3 - back}" for back in (0, 1)}
                assert {path.name for path in folder.iterdir()} == names


def hear(saver, child, told):
    """(the child that saves, the number of its last save) after the next line."""
    line = saver.stdout.readline()
    if line == "dead\n":
        return None, told
    return (int(line.split()[1]), told) if line.startswith("child") else (child, int(line))


@pytest.mark.parametrize(
    ("processes", "kills"),
    [
        (1, 2),
        (2, 1),
        pytest.param(1, 35, marks=pytest.mark.slow),
        pytest.param(2, 15, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_again_and_again_ends_where_an_unbroken_one_does(
    processes, kills, photos, unbroken, tmp_path
):
    seed = random.randrange(2**32)
    print("random seed", seed)
    moment = random.Random(seed)
    epochs = 4 + kills
    output = tmp_path / "run"
    options = words(
        photos, output, f"--num_train_epochs {epochs} --resume_from_checkpoint latest",
        processes=processes,
    )  # fmt: skip
    command = [sys.executable, *(TWO if processes == 2 else []), *options]
    killed = 0
    while killed < kills:
        with Family(command, stderr=tmp_path / "said") as run:
            before = step_of(output)
            if killed % 3 == 2 or before == STEPS_AN_EPOCH * epochs:
                time.sleep(moment.uniform(0, 8))  # while it starts
            else:
                last = STEPS_AN_EPOCH * epochs * (killed + 1) // kills
                goal = moment.randint(before + 1, max(before + 1, last))
                run.wait_for(lambda goal=goal: step_of(output) >= goal)
                time.sleep(moment.uniform(0, 0.1))
            killed += run.kill()
            assert run.head.returncode in (0, -signal.SIGKILL), run.said()
            if step_of(output):
                assert last_state(output)["progress"]["step"] == step_of(output) >= before
    with Family(command, stderr=tmp_path / "said") as run:
        assert run.status() == 0, run.said()
    assert_same_run(unbroken(processes, epochs), output)


def mount(folder, *options):
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr


@pytest.fixture
def disk(tmp_path):
    """An empty disk of 4 MiB."""
    if os.geteuid():
        pytest.skip("only root can make a disk of its own")
    folder = tmp_path / "disk"
    folder.mkdir()
    if trouble := mount(folder, "-t", "tmpfs", "-o", "size=4m", "colorhub-test"):
        pytest.skip(f"no disk of its own can be made here: {trouble}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def end_of(command):
    """What a script says when it ends early, run in this process as its users run it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            return str(end.code)
        finally:
            for state in (AcceleratorState, GradientState, PartialState):
                state._reset_state()


def fill(disk):
    with contextlib.suppress(OSError), open(disk / "filler", "ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


@pytest.mark.parametrize("harm", ["full", "read-only"])
def test_a_disk_that_cannot_be_written_to_ends_the_run_in_one_sentence(
    harm, disk, photos, unbroken, tmp_path
):
    output = disk / "run"
    command = words(photos, output, "--num_train_epochs 6 --resume_from_checkpoint latest")
    with Family([sys.executable, *command], stderr=tmp_path / "said") as run:
        run.wait_for(lambda: step_of(output) > 0)

        def end_of_harm():  # never: what it deletes makes room, what it writes keeps the disk busy
            fill(disk) if harm == "full" else mount(disk, "-o", "remount,ro")
            return False

        run.wait_for(end_of_harm)
        said = run.said()
        assert run.status() == 1 and "Traceback" not in said, said
    assert_says_what(said.strip().splitlines()[-1], output)
    assert last_state(output)["progress"]["step"] == step_of(output) > 0
    assert not mount(disk, "-o", "remount,rw,size=16m")
    assert end_of(command) is None
    assert_same_run(unbroken(1, 6), output)


def assert_says_what(sentence, output):
    assert sentence.startswith("error: ") and "\n" not in sentence
    assert str(output) in sentence
    assert "No space left" in sentence or "Read-only" in sentence, sentence


def test_a_run_goes_on_with_every_bit_of_room_it_is_given(disk, photos, unbroken, tmp_path):
    """So that each thing it writes is once the one that finds no room."""
    output = disk / "run"
    command = words(photos, output, "--num_train_epochs 2 --resume_from_checkpoint latest")
    assert not mount(disk, "-o", "remount,ro")
    assert_says_what(end_of(command), output)
    said = []
    for room in range(160, 2000, 20):  # KiB
        assert not mount(disk, "-o", f"remount,rw,size={room}k")
        before = step_of(output)
        if not (end := end_of(command)):
            break
        print(room, end)
        said.append(end)
        if step_of(output):
            assert last_state(output)["progress"]["step"] == step_of(output) >= before
    for end in said:
        assert_says_what(end, output)
    assert len(said) > 5
    assert_same_run(unbroken(1, 2), output)


def test_a_worker_that_is_killed_is_started_again(photos, unbroken, tmp_path):
    output = tmp_path / "run"
    command = [sys.executable, *TWO, "--max_restarts", "3"]
    command += words(photos, output, "--num_train_epochs 5", processes=2)
    with Family(command, stderr=tmp_path / "said") as run:
        run.wait_for(lambda: step_of(output) > 1)
        os.kill(random.choice(run.workers()), signal.SIGKILL)
        assert run.status() == 0, run.said()
        assert "Resumed from" in run.said()
    assert_same_run(unbroken(2, 5), output)


@pytest.fixture
def hosts():
    """Two hosts with a wire between them: network namespaces at 10.0.0.1 and 10.0.0.2."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("two hosts need root and iproute2")
    names = [f"colorhub-{uuid.uuid4().hex[:8]}" for _ in range(2)]

    def ip(*words):
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)

    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ends = [["wire", "netns", name] for name in names]
            ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network of its own can be made here: {error.stderr}")
        for i, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.0.0.{i}/24", "dev", "wire")
            for device in ("lo", "wire"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in made:
            ip("netns", "delete", name)


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_two_hosts_outlive_a_worker_of_either(victim, hosts, photos, unbroken, tmp_path):
    """Each has a disk of its own: only where the first process runs are there checkpoints."""
    families, outputs = [], []
    try:
        for i, name in enumerate(hosts):
            folder = tmp_path / name
            folder.mkdir()
            command = ["ip", "netns", "exec", name, sys.executable, *TORCHRUN]
            command += shlex.split(
                "--nnodes 2 --nproc_per_node 1 --max_restarts 3 --rdzv_id survival "
                "--rdzv_backend c10d --rdzv_endpoint 10.0.0.1:29400 "
                f"--rdzv_conf is_host={1 - i} --local_addr 10.0.0.{i + 1}"
            )
            command += words(photos, "run", "--num_train_epochs 5", processes=2)
            families.append(
                Family(command, cwd=folder, stderr=tmp_path / f"{i}.txt", GLOO_SOCKET_IFNAME="wire")
            )
            outputs.append(folder / "run")
        families[0].wait_for(lambda: max(map(step_of, outputs)) > 1)
        os.kill(*families[victim].workers(), signal.SIGKILL)
        for family in families:
            assert family.status() == 0, "\n".join(each.said() for each in families)
    finally:
        for family in families:
            family.kill()
    with_first = [output for output in outputs if (output / "training_log.csv").exists()]
    assert [output for output in outputs if step_of(output)] == with_first
    finished = max(outputs, key=step_of)
    assert step_of(finished) == 5 * STEPS_AN_EPOCH
    assert_same_state(last_state(unbroken(2, 5)), last_state(finished))
