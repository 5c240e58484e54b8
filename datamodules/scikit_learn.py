"""The data sets that scikit-learn carries: small, real, no download."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import DIGITS
from trainoff.datamodules.facts.table_sets import BREAST_CANCER, DIABETES, IRIS, WINE
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule
from trainoff.errors import UserError


class Digits(TensorDataModule):
    """1,797 handwritten digits as grey images of 8 x 8, from 43 people; inputs ``(1, 8, 8)``, 10 classes.

    Args:
        batch_size: See :class:`TensorDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share that validates.
        test_fraction: The share that tests.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.
        scale: Show each pixel as a square of ``scale * scale`` pixels: 4 gives ``(1, 32, 32)``, for nets that are
            made for images of that size.

    Source: Alpaydin and Kaynak 1998, the test part of UCI's Optical Recognition of Handwritten Digits.
    """

    facts: ClassVar[DataModuleEntry] = DIGITS

    def __init__(
        self,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float | None = 0.2,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
        scale: int = 1,
    ) -> None:
        super().__init__(
            batch_size, microbatches, split_seed, val_fraction, test_fraction, label_noise, train_samples, replacement
        )
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise UserError(f"{scale!r} is not a number of pixels; it must be at least 1", "scale")
        self.scale = scale
        if scale > 1:  # else what the facts say, those of a subclass too
            self.input_shape = (1, 8 * scale, 8 * scale)

    def raw_data(self) -> RawData:
        """Grey levels from 0 to 16 as uint8, and the digits."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels = images.astype(np.uint8).reshape(-1, 1, 8, 8)
        return RawData(pixels.repeat(self.scale, axis=2).repeat(self.scale, axis=3), labels)


class BreastCancer(TensorDataModule):
    """569 tumours by 30 measurements of their cells' nuclei; inputs ``(30,)``; classes 0 malignant, 1 benign.

    Arguments as for :class:`TensorDataModule`; each feature is standardised by itself.

    Source: Wolberg, Mangasarian, Street and Street 1993, UCI's Breast Cancer Wisconsin (Diagnostic).
    """

    facts: ClassVar[DataModuleEntry] = BREAST_CANCER
    per_feature: ClassVar[bool] = True

    def raw_data(self) -> RawData:
        """The measurements in their own units, and the classes."""
        from sklearn.datasets import load_breast_cancer

        return RawData(*load_breast_cancer(return_X_y=True))


class Wine(TensorDataModule):
    """178 wines by 13 chemical measurements; inputs ``(13,)``; the three classes are cultivars.

    Arguments as for :class:`TensorDataModule`; each feature is standardised by itself.

    Source: Aeberhard and Forina 1992, UCI's Wine.
    """

    facts: ClassVar[DataModuleEntry] = WINE
    per_feature: ClassVar[bool] = True

    def raw_data(self) -> RawData:
        """The measurements in their own units, and the classes."""
        from sklearn.datasets import load_wine

        return RawData(*load_wine(return_X_y=True))


class Diabetes(TensorDataModule):
    """442 patients: the progression of diabetes after one year from 10 measurements; inputs ``(10,)``, regression.

    Arguments as for :class:`TensorDataModule`; each feature is standardised by itself, and so is the target.

    Source: Efron, Hastie, Johnstone and Tibshirani 2004, Least Angle Regression.
    """

    facts: ClassVar[DataModuleEntry] = DIABETES
    per_feature: ClassVar[bool] = True

    def raw_data(self) -> RawData:
        """The measurements and the progression in their own units."""
        from sklearn.datasets import load_diabetes

        # scikit-learn's scaled features were scaled with the test samples among them
        return RawData(*load_diabetes(return_X_y=True, scaled=False))


class Iris(TensorDataModule):
    """150 irises by the length and the width of sepal and petal; inputs ``(4,)``; the three classes are species.

    Arguments as for :class:`TensorDataModule`; each feature is standardised by itself.

    Source: Fisher 1936, The use of multiple measurements in taxonomic problems.
    """

    facts: ClassVar[DataModuleEntry] = IRIS
    per_feature: ClassVar[bool] = True

    def raw_data(self) -> RawData:
        """The measurements in centimetres, and the species."""
        from sklearn.datasets import load_iris

        return RawData(*load_iris(return_X_y=True))
