"""A checkpoint is all of the old one or all of the new one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.modules import AtomicCheckpointIO

WRITER = """
import sys
import torch
from trainoff.modules import AtomicCheckpointIO
number = 0
while True:
    number += 1
    tensors = {f"layer {i}": torch.full((100_000,), number) for i in range(10)}
    AtomicCheckpointIO().save_checkpoint({"number": number, "tensors": tensors}, sys.argv[1])
    print(number, flush=True)
"""


def test_lightning_saves_and_resumes_with_it(tmp_path):
    straight, begun, resumed = UsersModule(), UsersModule(), UsersModule()
    for module in (begun, resumed):
        module.load_state_dict(straight.state_dict())
    torch.manual_seed(1)
    make_trainer(max_epochs=1).fit(straight, datamodule=UsersData())
    torch.manual_seed(1)
    trainer = make_trainer(max_epochs=1, plugins=[AtomicCheckpointIO()])
    trainer.fit(begun, datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "new folder" / "a.ckpt")
    trainer = make_trainer(max_epochs=1, plugins=[AtomicCheckpointIO()])
    trainer.fit(resumed, datamodule=UsersData(), ckpt_path=tmp_path / "new folder" / "a.ckpt", weights_only=True)
    assert torch.equal(parameters_of(resumed), parameters_of(straight))
    assert os.listdir(tmp_path / "new folder") == ["a.ckpt"]


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "a.ckpt"
    generator = random.Random(4)
    begun = 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "1\n"  # that one is on the disk
        time.sleep(generator.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        said = [1, *map(int, writer.stdout.read().split())]
        writer.wait()
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["number"] in (said[-1], said[-1] + 1)
        assert all((tensor == checkpoint["number"]).all() for tensor in checkpoint["tensors"].values())
        begun += said[-1]
    assert begun > 3


def test_a_full_disk_leaves_the_old_one(tmp_path):
    """A limit on the sizes of files stands in for it."""
    source = """
import os, resource, signal, sys, torch
from trainoff.modules import AtomicCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
AtomicCheckpointIO().save_checkpoint({"number": 1}, "a.ckpt")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    AtomicCheckpointIO().save_checkpoint({"number": 2, "tensor": torch.zeros(100_000)}, "a.ckpt")
except Exception as error:
    print("refused")
print(os.listdir("."), torch.load("a.ckpt", weights_only=True))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout == "refused\n['a.ckpt'] {'number': 1}\n"


def test_addresses_that_are_no_paths_are_lightnings(monkeypatch):
    import fsspec

    AtomicCheckpointIO().save_checkpoint({"number": 3}, "memory://folder/a.ckpt")
    with fsspec.open("memory://folder/a.ckpt") as file:
        assert torch.load(file, weights_only=True) == {"number": 3}


def test_storage_options_are_refused_as_by_lightning(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={"a": 1})
