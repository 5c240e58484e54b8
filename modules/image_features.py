"""Features of images: the last hidden layer of a small classifier that is trained on the dataset itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.regularizers.training_data import training_batches
from trainoff.seeds import derive_seed

FEATURES = 32
_STEPS, _BATCH, _RATE = 250, 64, 3e-3
_MOST_IMAGES = 10_000  # seconds on one core, also for images of 32 x 32


class ImageFeatures(nn.Module):
    """A small convolutional classifier whose last hidden layer's 32 activations are the features.

    From (batch, channels, height, width) to (batch, 32). It takes no part in any training but its own
    (:func:`train_features`), which happens once; whether it has is part of its state.

    Args:
        input_shape: (channels, height, width).
        num_classes: Of the labels that it is trained on.
    """

    is_trained: Tensor

    def __init__(self, input_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        stride = 2 if min(height, width) > 16 else 1
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # the trial's own draws stay as they are
            torch.default_generator.manual_seed(derive_seed(0, "features", "weights"))
            self.convolutions = nn.Sequential(
                nn.Conv2d(channels, 16, 3, stride, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(4),
                nn.Flatten(),
            )
            self.hidden = nn.Linear(32 * 16, FEATURES)
            self.output = nn.Linear(FEATURES, num_classes)
        self.register_buffer("is_trained", torch.tensor(False))
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """The features of images."""
        return F.relu(self.hidden(self.convolutions(images)))

    def classify(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        return self.output(self.forward(images))  # type: ignore[no-any-return]


def train_features(features: ImageFeatures, images: Tensor, labels: Tensor) -> None:
    """Train the classifier: 250 steps of Adam on batches of 64, on the CPU, from a seed of its own.

    The result depends on the set of samples alone, not on their order, nor on any other seed.

    Args:
        features: Changed in place.
        images: (images, channels, height, width), float32.
        labels: (images,), class numbers.
    """
    images, labels = _in_canonical_order(images, labels)
    for parameter in features.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(features.parameters(), lr=_RATE)
    generator = torch.Generator().manual_seed(derive_seed(0, "features", "batches"))
    for _ in range(_STEPS):
        chosen = torch.randint(len(images), (_BATCH,), generator=generator)
        loss = F.cross_entropy(features.classify(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features.requires_grad_(False)
    features.is_trained.fill_(True)


def _in_canonical_order(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(images[0].numel(), generator=generator, dtype=torch.float64)
    order = torch.argsort(images.flatten(1).double() @ direction, stable=True)
    return images[order], labels[order]


def labelled_images(trainer: L.Trainer, module: L.LightningModule) -> tuple[Tensor, Tensor]:
    """Images and labels of the training split, 10,000 at most, on the CPU, as the module's steps get them.

    From the DataModule's ``train_eval_dataloader`` (without augmentation, in a fixed order) where it has one, else
    from its training loader.

    Raises:
        UserError: Where there is no training data, or a batch is not images and class numbers.
    """
    own = getattr(getattr(trainer, "datamodule", None), "train_eval_dataloader", None)
    batches: Any = own() if own is not None else training_batches(trainer, module)
    if batches is None:
        raise UserError("its metric's classifier needs the training split; give the Trainer a DataModule", "gan")
    images, labels = [], []
    for batch in batches:
        moved = trainer.strategy.batch_to_device(batch, module.device)
        if not isinstance(moved, (tuple, list)) or len(moved) < 2 or moved[1].is_floating_point():
            raise UserError("needs batches of (images, class numbers)", "gan")
        images.append(moved[0].detach().float().cpu())
        labels.append(moved[1].detach().cpu())
        if sum(map(len, labels)) >= _MOST_IMAGES:
            break
    return torch.cat(images)[:_MOST_IMAGES], torch.cat(labels)[:_MOST_IMAGES]
