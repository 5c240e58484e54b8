"""The public names. A removed one warns for two minor versions first; an added one is added here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import trainoff

PUBLIC = {
    "trainoff": ["Board", "Recipe", "UserError", "__version__", "compare_recipes", "read_board", "run"],
    "trainoff.modules": [
        "GAN",
        "INITIALISATIONS",
        "MODULES",
        "NETS",
        "OPTIMIZERS",
        "PRUNING",
        "REGULARIZERS",
        "SCHEDULES",
        "STRATEGIES",
        "AtomicCheckpointIO",
        "Classifier",
        "LanguageModel",
        "MaskedLanguageModel",
        "Pruning",
        "Recipe",
        "RecipeModule",
        "Regressor",
        "Regularizer",
        "Seq2Seq",
        "SupervisedModule",
    ],
    "trainoff.modules.nets": [
        "DCGAN",
        "GPT2",
        "MLP",
        "NETS",
        "TCN",
        "VGG",
        "AdaptiveDilatedCNN",
        "AlexNet",
        "AllCNNC",
        "Bert",
        "CellNet",
        "CifarResNet",
        "DeepObs2c2d",
        "DeepObs3c3d",
        "DenseNet",
        "DilatedCNN",
        "DynamicSEResNet",
        "GoogLeNet",
        "LeNet5",
        "Linear",
        "NetEntry",
        "ResNet",
        "ResNet50",
        "SEResNet",
        "Seq2SeqLSTM",
        "Transformer",
        "VisionTransformer",
        "WideResNet",
    ],
    "trainoff.modules.regularizers": [
        "EMA",
        "EWC",
        "L1",
        "L2",
        "REGULARIZERS",
        "SWA",
        "ConfidencePenalty",
        "Curriculum",
        "CutMix",
        "Cutout",
        "Distillation",
        "DropPath",
        "Dropout",
        "EarlyStopping",
        "ElasticNet",
        "GradientCentralization",
        "GradientClip",
        "GradientNoise",
        "GradientPenalty",
        "InputNoise",
        "LabelSmoothing",
        "Lookahead",
        "Lp",
        "MaxNorm",
        "Mixup",
        "Orthogonal",
        "Regularizer",
        "RegularizerEntry",
        "SAM",
        "SpectralNorm",
        "SpikeGuard",
        "WeightDecay",
    ],
    "trainoff.modules.pruning": [
        "PRUNING",
        "DynamicNetworkSurgery",
        "Gradual",
        "Int8",
        "LotteryTicket",
        "Magnitude",
        "Movement",
        "ProgressiveShrinking",
        "Pruning",
        "PruningEntry",
        "Snip",
        "SynFlow",
    ],
    "trainoff.datamodules": [
        "ALTERATIONS",
        "CIFAR10",
        "CIFAR100",
        "DATAMODULES",
        "MNIST",
        "MNIST1D",
        "Altered",
        "BreastCancer",
        "DataModuleEntry",
        "Diabetes",
        "Digits",
        "FashionMNIST",
        "GaussianMixture",
        "HubImages",
        "HubText",
        "HubTranslation",
        "ImageDataModule",
        "ImageFolder",
        "InMemoryDataModule",
        "Iris",
        "Melodies",
        "ModularArithmetic",
        "PairsDataModule",
        "PairsFile",
        "ParquetStream",
        "Quadratic",
        "RawData",
        "Spirals",
        "SyntheticPairs",
        "Table",
        "TaskSequence",
        "TeacherStudent",
        "TensorBatches",
        "TensorDataModule",
        "Text",
        "TimeSeries",
        "TinyShakespeare",
        "TokenDataModule",
        "TwoMoons",
        "WikiText2",
        "Wine",
    ],
    "trainoff.leaderboards": [
        "Board",
        "Comparison",
        "Estimate",
        "Standing",
        "TaskTable",
        "compare",
        "read_board",
        "render_comparison",
    ],
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package):
    assert sorted(importlib.import_module(package).__all__) == sorted(PUBLIC[package])


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_there_and_documented(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        assert name.isupper() or name == "__version__" or thing.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_the_package_is_typed():
    assert (Path(trainoff.__file__).parent / "py.typed").is_file()
