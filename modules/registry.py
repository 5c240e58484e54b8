"""The kinds of LightningModule by name; data only."""

from __future__ import annotations

from trainoff.registry import Entry, Registry

MODULES = Registry(
    "LightningModule",
    [
        Entry(
            "classifier",
            "trainoff.modules.classifier:Classifier",
            "classes from inputs: cross-entropy loss, accuracy",
        ),
        Entry(
            "regressor",
            "trainoff.modules.regressor:Regressor",
            "numbers from inputs: mean squared error, mean absolute error, R²",
        ),
        Entry(
            "language_model",
            "trainoff.modules.language_model:LanguageModel",
            "the next token from those before it: perplexity, bits per token and per byte",
            "J = −(1/n) Σₜ log p(xₜ | x₁ … xₜ₋₁)",
        ),
        Entry(
            "masked_language_model",
            "trainoff.modules.masked_language_model:MaskedLanguageModel",
            "hidden tokens from those around them: 15 % of the places, 80/10/10, accuracy at these",
            "J = −(1/m) Σ_{t hidden} log p(xₜ | x̃)",
            "Devlin et al. 2019, BERT: pre-training of deep bidirectional transformers for language understanding",
        ),
        Entry(
            "seq2seq",
            "trainoff.modules.seq2seq:Seq2Seq",
            "a sequence from another one: teacher forcing, greedy or beam search, exact match, BLEU",
            "J = −(1/n) Σₜ log p(yₜ | x, y₁ … yₜ₋₁)",
            "Sutskever, Vinyals & Le 2014, Sequence to sequence learning with neural networks",
        ),
        Entry(
            "gan",
            "trainoff.modules.gan:GAN",
            "images from noise: a generator against a discriminator, each with its own recipe; Fréchet distance",
            "min over G, max over D: E log σ(D(x)) + E log(1 − σ(D(G(z)))); G's own loss is −E log σ(D(G(z)))",
            "Goodfellow et al. 2014, Generative adversarial nets",
        ),
    ],
    Entry,
    "trainoff.modules",
)
