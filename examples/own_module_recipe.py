"""One line makes a LightningModule of one's own train by a Recipe: `recipe.apply(MyModule())`."""

from __future__ import annotations

import lightning as L
from own_project import MyDataModule, MyModule

from trainoff import Recipe

recipe = Recipe(
    optimizer={"name": "adamw", "lr": 0.01, "weight_decay": 0.01},
    schedule={"name": "cosine", "warmup": 0.1},
    regularizers=[{"name": "l2", "coefficient": 1e-4}, "gradient_clip"],
    batch=64,
    microbatches=2,
    parameters=[{"match": "net.0.*", "lr_scale": 0.5}],
)
L.seed_everything(0)
# What only a Trainer can hold (here the micro-batches) comes from the recipe too.
trainer = L.Trainer(
    **recipe.trainer_arguments(), max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False
)
module = recipe.apply(MyModule())
trainer.fit(module, datamodule=MyDataModule())
trainer.test(module, datamodule=MyDataModule())
print("optimizer:", type(trainer.optimizers[0]).__name__)
print("groups:", [group["name"] for group in trainer.optimizers[0].param_groups])
print("callbacks:", [type(callback).__name__ for callback in module.recipe_callbacks])
