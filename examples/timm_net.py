"""A model of timm as the net of a Classifier, by the `class_path` of the function that makes it."""

from __future__ import annotations

import sys

try:
    import timm  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}; pip install timm")
    sys.exit()

import lightning as L

from trainoff.datamodules import Digits
from trainoff.modules import Classifier

# The sizes are arguments of timm's; trainoff gives them to a net only where it takes input_shape and output_size.
net = {"class_path": "timm.create_model", "init_args": {"model_name": "resnet18", "in_chans": 1, "num_classes": 10}}

L.seed_everything(0)
module = Classifier(net, recipe={"optimizer": {"name": "adamw", "lr": 1e-3}, "schedule": "one_cycle", "batch": 64})
trainer = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(module, datamodule=Digits())
trainer.test(module, datamodule=Digits())
print("net:", type(module.net).__name__)
