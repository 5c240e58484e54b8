"""A LightningCLI script of one's own with trainoff's classes.

python lightning_cli.py fit --model.net mlp --model.recipe adamw-cosine --trainer.max_epochs 3
python lightning_cli.py fit --model.recipe.optimizer '{name: adamw, lr: 0.01}'
python lightning_cli.py fit --model.recipe.optimizer.name adamw --model.recipe.optimizer.lr 0.01
"""

from __future__ import annotations

from lightning.pytorch.cli import LightningCLI

from trainoff.datamodules import Digits
from trainoff.modules import Classifier

if __name__ == "__main__":
    LightningCLI(Classifier, Digits)
