"""What is trained, and how: LightningModules, nets, and the Recipe with its optimizers, schedules and regularizers.

Names are imported when they are first used, so that listing the registries needs neither torch nor lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainoff.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from trainoff.modules.checkpoint_io import AtomicCheckpointIO
    from trainoff.modules.classifier import Classifier
    from trainoff.modules.gan import GAN
    from trainoff.modules.initialisation import INITIALISATIONS
    from trainoff.modules.language_model import LanguageModel
    from trainoff.modules.masked_language_model import MaskedLanguageModel
    from trainoff.modules.nets import NETS
    from trainoff.modules.optimizers import OPTIMIZERS
    from trainoff.modules.pruning import PRUNING, Pruning
    from trainoff.modules.recipe import Recipe
    from trainoff.modules.recipe_module import RecipeModule
    from trainoff.modules.registry import MODULES
    from trainoff.modules.regressor import Regressor
    from trainoff.modules.regularizers import REGULARIZERS, Regularizer
    from trainoff.modules.schedules import SCHEDULES
    from trainoff.modules.seq2seq import Seq2Seq
    from trainoff.modules.strategies import STRATEGIES
    from trainoff.modules.supervised_module import SupervisedModule

_HOMES = {
    "AtomicCheckpointIO": "checkpoint_io",
    "Classifier": "classifier",
    "GAN": "gan",
    "INITIALISATIONS": "initialisation",
    "LanguageModel": "language_model",
    "MODULES": "registry",
    "MaskedLanguageModel": "masked_language_model",
    "NETS": "nets",
    "OPTIMIZERS": "optimizers",
    "PRUNING": "pruning",
    "Pruning": "pruning",
    "REGULARIZERS": "regularizers",
    "Recipe": "recipe",
    "RecipeModule": "recipe_module",
    "Regressor": "regressor",
    "Regularizer": "regularizers",
    "SCHEDULES": "schedules",
    "STRATEGIES": "strategies",
    "Seq2Seq": "seq2seq",
    "SupervisedModule": "supervised_module",
}

__all__ = [
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
]


__getattr__ = lazy_attributes(__name__, _HOMES)
