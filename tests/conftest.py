"""One torch thread, and no hub: what every test starts from."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from users_project import parameters_of

torch.set_num_threads(1)


@pytest.fixture
def flat():
    """All parameters of a module in one vector, in double precision."""
    return parameters_of
