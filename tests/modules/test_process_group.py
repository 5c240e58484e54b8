"""A process of a group leaves it before its interpreter ends."""

import subprocess
import sys

SCRIPT = """
import atexit, torch.distributed as dist
from trainoff.modules.process_group import destroy_process_group_at_exit
atexit.register(lambda: print("in a group:", dist.is_initialized()))  # what is registered first runs last
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
{leave}
print("in a group:", dist.is_initialized())
"""


def ends_of(leave: str) -> list[str]:
    script = SCRIPT.format(leave=leave)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return ended.stdout.split("\n")


def test_the_group_is_left_before_the_end():
    assert ends_of("destroy_process_group_at_exit(); destroy_process_group_at_exit()")[:2] == [
        "in a group: True",
        "in a group: False",
    ]


def test_torch_does_not_see_to_it_of_itself():
    """If this fails, the module is not needed any more."""
    assert ends_of("")[:2] == ["in a group: True", "in a group: True"]
