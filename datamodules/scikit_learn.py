"""The data sets that scikit-learn carries: small, real, no download."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainoff.datamodules.registry import BREAST_CANCER, DIABETES, DIGITS, IRIS, WINE, DataModuleEntry
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule


class Digits(TensorDataModule):
    """1,797 handwritten digits as grey images of 8 x 8, from 43 people; inputs ``(1, 8, 8)``, 10 classes.

    Arguments as for :class:`TensorDataModule`.

    Source: Alpaydin and Kaynak 1998, the test part of UCI's Optical Recognition of Handwritten Digits.
    """

    facts: ClassVar[DataModuleEntry] = DIGITS

    def raw_data(self) -> RawData:
        """Grey levels from 0 to 16 as uint8, and the digits."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return RawData(images.astype(np.uint8).reshape(-1, 1, 8, 8), labels)


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
