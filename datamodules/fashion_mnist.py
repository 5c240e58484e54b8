"""Fashion-MNIST, from idx files or from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import FASHION_MNIST
from trainoff.datamodules.mnist import IdxImages


class FashionMNIST(IdxImages):
    """60,000 + 10,000 grey images of 28 x 28 of clothing in 10 classes; inputs ``(1, 28, 28)``.

    Where the files are looked for, and the arguments, is told by :class:`DownloadedImages`; 10,000 of the official
    60,000 validate. The system's folder is ``/usr/share/datasets/fashion-mnist`` (Debian's package
    ``dataset-fashion-mnist``). From the hub it comes as ``zalando-datasets/fashion_mnist``.

    Source: Xiao, Rasul and Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747.
    """

    facts: ClassVar[DataModuleEntry] = FASHION_MNIST
    title: ClassVar[str] = "Fashion-MNIST"
    hub_name: ClassVar[str] = "zalando-datasets/fashion_mnist"
    alternative: ClassVar[str] = (
        "install Debian's package dataset-fashion-mnist, or put the four idx files (train-images-idx3-ubyte.gz, ...)"
    )
    system_folder: ClassVar[Path | None] = Path("/usr/share/datasets/fashion-mnist")
