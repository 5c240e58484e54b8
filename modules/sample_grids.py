"""Images in a grid, given to whatever logger the Trainer has."""

from __future__ import annotations

import math
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.nn import functional as F


def image_grid(images: Tensor) -> Tensor:
    """Images side by side in rows, with a black line of one pixel around each.

    Args:
        images: (n, channels, height, width).

    Returns:
        (channels, rows · (height + 1) + 1, columns · (width + 1) + 1), with ⌈√n⌉ columns.
    """
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    bordered = F.pad(images, (1, 0, 1, 0))
    bordered = torch.cat([bordered, bordered.new_zeros(rows * columns - count, *bordered.shape[1:])])
    cells = bordered.view(rows, columns, channels, height + 1, width + 1).permute(2, 0, 3, 1, 4)
    return F.pad(cells.reshape(channels, rows * (height + 1), columns * (width + 1)), (0, 1, 0, 1))


def log_grid(trainer: L.Trainer, name: str, images: Tensor) -> None:
    """Log images, (n, channels, height, width) in [0, 1], as one grid.

    With W&B as an image, with TensorBoard likewise, with the CSV logger as a PNG file in its folder where Pillow is
    installed; other loggers get nothing, nor do images of other than 1 or 3 channels.
    """
    if images.shape[1] not in (1, 3) or not trainer.is_global_zero:
        return
    grid = image_grid(images.detach().float().cpu().clamp(0, 1))
    pixels = (grid * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, grid, trainer.global_step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [pixels], step=trainer.global_step)
        elif isinstance(logger, CSVLogger):
            _save_png(pixels, Path(logger.log_dir) / name.replace("/", "_") / f"{trainer.global_step:08d}.png")


def _save_png(pixels: object, path: Path) -> None:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)  # type: ignore[arg-type]
