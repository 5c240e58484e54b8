"""Facts about the image sets."""

from __future__ import annotations

from trainoff.datamodules.facts.entry import DataModuleEntry

DIGITS = DataModuleEntry(
    name="digits",
    target="trainoff.datamodules.scikit_learn:Digits",
    summary="handwritten digits, 8x8 grey images (scikit-learn, no download)",
    paper="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI, doi:10.24432/C50P49",
    num_samples=1797,
    input_shape=(1, 8, 8),
    num_classes=10,
    licence="CC BY 4.0",
    size_bytes=57_523,
)
FASHION_MNIST = DataModuleEntry(
    name="fashion_mnist",
    target="trainoff.datamodules.fashion_mnist:FashionMNIST",
    summary="Zalando's articles of clothing, 28x28 grey images (a folder, a Debian package or the hub)",
    paper="Xiao, Rasul and Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
    num_samples=70_000,
    input_shape=(1, 28, 28),
    num_classes=10,
    licence="MIT",
    size_bytes=30_878_551,
)
MNIST = DataModuleEntry(
    name="mnist",
    target="trainoff.datamodules.mnist:MNIST",
    summary="handwritten digits, 28x28 grey images (idx files or the hub)",
    paper="LeCun, Cortes and Burges, The MNIST database of handwritten digits; LeCun, Bottou, Bengio and Haffner "
    "1998, Gradient-based learning applied to document recognition, Proceedings of the IEEE 86(11)",
    num_samples=70_000,
    input_shape=(1, 28, 28),
    num_classes=10,
    licence="none stated by its authors' page; the hub's copy says MIT",
    size_bytes=11_594_722,
)
CIFAR10 = DataModuleEntry(
    name="cifar10",
    target="trainoff.datamodules.cifar:CIFAR10",
    summary="small colour images of 10 kinds of things, 32x32 (the binary version's files or the hub)",
    paper="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, technical report, Toronto",
    num_samples=60_000,
    input_shape=(3, 32, 32),
    num_classes=10,
    licence="none stated by its author",
    size_bytes=170_052_171,
)
CIFAR100 = DataModuleEntry(
    name="cifar100",
    target="trainoff.datamodules.cifar:CIFAR100",
    summary="small colour images of 100 kinds of things, 32x32 (the binary version's files or the hub)",
    paper="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, technical report, Toronto",
    num_samples=60_000,
    input_shape=(3, 32, 32),
    num_classes=100,
    licence="none stated by its author",
    size_bytes=168_513_733,
)
HUB_IMAGES = DataModuleEntry(
    name="hub_images",
    target="trainoff.datamodules.hub_images:HubImages",
    summary="any image set of the Hugging Face hub, by its name",
    licence="that of the set: see its page on the hub",
)
IMAGE_FOLDER = DataModuleEntry(
    name="image_folder",
    target="trainoff.datamodules.image_folder:ImageFolder",
    summary="your own images: a folder for each class, within train/, val/ and test/ or without",
    licence="that of your images",
)
