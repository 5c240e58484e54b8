"""One torch thread, and no hub: what every test starts from."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from users_project import parameters_of

torch.set_num_threads(1)

# Begun in the background, a process ignores Ctrl-C, and with it all that the tests start to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def flat():
    """All parameters of a module in one vector, in double precision."""
    return parameters_of
