"""A model of transformers as the net of a Classifier, with its config, and no weights to download.

An argument that is itself `{class_path: ..., init_args: ...}` is built first, as LightningCLI does. The model returns
an object with `logits`, which the Classifier takes.
"""

from __future__ import annotations

import sys

try:
    import transformers  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}; pip install transformers")
    sys.exit()

import lightning as L

from trainoff.datamodules import Digits
from trainoff.modules import Classifier

config = {
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_labels": 10,
    "initializer_range": 0.1,  # transformers' 0.02 is meant for widths of 768
}
net = {
    "class_path": "transformers.ViTForImageClassification",
    "init_args": {"config": {"class_path": "transformers.ViTConfig", "init_args": config}},
}

L.seed_everything(0)
module = Classifier(net, recipe={"optimizer": {"name": "adamw", "lr": 3e-3}, "schedule": "cosine", "batch": 64})
trainer = L.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(module, datamodule=Digits())
trainer.test(module, datamodule=Digits())
print("net:", type(module.net).__name__)
