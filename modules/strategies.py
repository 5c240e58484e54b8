"""Lightning's strategies by name; data only. Which devices they need is Lightning's to say."""

from __future__ import annotations

from trainoff.registry import Entry, Registry

_HOME = "lightning.pytorch.strategies"

STRATEGIES = Registry(
    "strategy",
    [
        Entry("auto", f"{_HOME}:SingleDeviceStrategy", "what Lightning chooses for the devices at hand"),
        Entry("single_device", f"{_HOME}:SingleDeviceStrategy", "one process, one device"),
        Entry("ddp", f"{_HOME}:DDPStrategy", "a copy of the net on each device, gradients averaged"),
        Entry("ddp_spawn", f"{_HOME}:DDPStrategy", "ddp in processes spawned from this one"),
        Entry(
            "fsdp",
            f"{_HOME}:FSDPStrategy",
            "parameters, gradients and optimizer state sharded over the devices",
            paper="Zhao et al. 2023, PyTorch FSDP: experiences on scaling fully sharded data parallel",
        ),
        Entry("model_parallel", f"{_HOME}:ModelParallelStrategy", "FSDP2 and tensor parallelism on a device mesh"),
        Entry(
            "deepspeed",
            f"{_HOME}:DeepSpeedStrategy",
            "ZeRO stages 1 to 3, with offload",
            paper="Rajbhandari et al. 2020, ZeRO: memory optimizations toward training trillion parameter models",
        ),
        Entry("xla", f"{_HOME}:XLAStrategy", "TPUs, through torch_xla"),
    ],
    Entry,
    "trainoff.strategies",
)
