"""Architectures by name; data only. A net's class is imported when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainoff.lazy_imports import lazy_attributes
from trainoff.registry import Entry, Registry, class_homes


@dataclass(frozen=True)
class NetEntry(Entry):
    """A net's entry.

    Args:
        inputs: The shape of one sample that the net takes, in words.
        domain: What a sample is: of any shape, an image (channels, height, width), a series of numbers (length,) or
            (channels, length), a series of token numbers (length,), or a pair of those.
        tiny: Arguments of a variant that trains in seconds on a CPU.
        tiny_shape: The shape of one sample that the tiny variant is tried with.
    """

    inputs: str = "any shape"
    domain: Literal["any", "images", "series", "tokens", "token pairs", "image generation"] = "any"
    tiny: Mapping[str, Any] = field(default_factory=dict)
    tiny_shape: tuple[int, ...] = (1, 28, 28)


_IMAGES = "images (channels, height, width)"
_TOKENS = "token numbers (length,)"
_TOKEN_PAIRS = "token numbers of source and target (length,)"

NETS = Registry(
    "net",
    [
        NetEntry(
            "linear",
            "trainoff.modules.nets.linear:Linear",
            "one affine layer: linear or logistic regression",
            "y = Wx + b",
        ),
        NetEntry(
            "mlp",
            "trainoff.modules.nets.mlp:MLP",
            "fully connected layers; widths, activation, norm and dropout are arguments",
            "hₖ = dropout(φ(norm(Wₖhₖ₋₁ + bₖ)))",
            "Rumelhart, Hinton & Williams 1986, Learning representations by back-propagating errors",
            tiny={"hidden": [16, 16]},
        ),
        NetEntry(
            "lenet5",
            "trainoff.modules.nets.lenet5:LeNet5",
            "two convolutions and three dense layers; 61,706 parameters",
            paper="LeCun et al. 1998, Gradient-based learning applied to document recognition",
            inputs=f"{_IMAGES}, from 12 x 12",
            domain="images",
        ),
        NetEntry(
            "2c2d",
            "trainoff.modules.nets.deepobs_2c2d:DeepObs2c2d",
            "DeepOBS's net for Fashion-MNIST: two convolutions, two dense layers; 3,274,634 parameters",
            paper="Schneider, Balles & Hennig 2019, DeepOBS: a deep learning optimizer benchmark suite",
            inputs=_IMAGES,
            domain="images",
            tiny={"channels": [4, 8], "dense": 16},
        ),
        NetEntry(
            "3c3d",
            "trainoff.modules.nets.deepobs_3c3d:DeepObs3c3d",
            "DeepOBS's net for CIFAR: three convolutions, three dense layers; 895,210 parameters",
            paper="Schneider, Balles & Hennig 2019, DeepOBS: a deep learning optimizer benchmark suite",
            inputs=f"{_IMAGES}, from 9 x 9",
            domain="images",
            tiny={"channels": [8, 12, 16], "dense": [32, 16]},
        ),
        NetEntry(
            "allcnnc",
            "trainoff.modules.nets.all_cnn_c:AllCNNC",
            "All-CNN-C: nine convolutions, strides in place of pooling; 1,369,738 parameters for CIFAR-10",
            paper="Springenberg et al. 2015, Striving for simplicity: the all convolutional net",
            inputs=f"{_IMAGES}, from 9 x 9",
            domain="images",
            tiny={"width": 8, "norm": "batch", "dropout": 0.0, "input_dropout": 0.0},
        ),
        NetEntry(
            "alexnet",
            "trainoff.modules.nets.alexnet:AlexNet",
            "five convolutions, three dense layers; 61,100,840 parameters for ImageNet; stem: small for small images",
            paper="Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks",
            inputs=f"{_IMAGES}, from 63 x 63, with stem: small from 7 x 7",
            domain="images",
            tiny={"width": 4, "dense": 32, "stem": "small", "dropout": 0.0},
        ),
        NetEntry(
            "vgg16",
            "trainoff.modules.nets.vgg:VGG",
            "3 x 3 convolutions in five stages; 138,357,544 parameters for ImageNet; head: small for small images",
            paper="Simonyan & Zisserman 2015, Very deep convolutional networks for large-scale image recognition",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 11, "width": 8, "head": "small", "norm": "batch", "dropout": 0.0},
        ),
        NetEntry(
            "googlenet",
            "trainoff.modules.nets.googlenet:GoogLeNet",
            "Inception v1 with batch norm; 6,624,904 parameters for ImageNet; stem: small for small images",
            "y = [1×1(x), 3×3(1×1(x)), 3×3(1×1(x)), 1×1(pool(x))]",
            "Szegedy et al. 2015, Going deeper with convolutions",
            inputs=f"{_IMAGES}, from 15 x 15, with stem: small from 2 x 2",
            domain="images",
            tiny={"width": 8, "dropout": 0.0},
        ),
        NetEntry(
            "densenet121",
            "trainoff.modules.nets.densenet:DenseNet",
            "each layer sees all earlier ones; 7,978,856 parameters for ImageNet; stem: small for small images",
            "xₗ = H([x₀, x₁, ..., xₗ₋₁])",
            "Huang et al. 2017, Densely connected convolutional networks",
            inputs=_IMAGES,
            domain="images",
            tiny={"blocks": [2, 2, 2], "growth": 8},
        ),
        NetEntry(
            "resnet20",
            "trainoff.modules.nets.resnet_cifar:CifarResNet",
            "the small residual net for CIFAR, of depth 6n + 2; 0.27 M parameters at depth 20",
            "y = φ(x + F(x))",
            "He et al. 2016, Deep residual learning for image recognition, section 4.2",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 8, "width": 4},
        ),
        NetEntry(
            "resnet18",
            "trainoff.modules.nets.resnet:ResNet",
            "the residual net for ImageNet, of depths 18 to 152; 11,689,512 parameters at depth 18",
            "y = φ(shortcut(x) + F(x))",
            "He et al. 2016, Deep residual learning for image recognition",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 10, "width": 8},
        ),
        NetEntry(
            "resnet50",
            "trainoff.modules.nets.resnet:ResNet50",
            "the same with bottlenecks; 25,557,032 parameters",
            "y = φ(shortcut(x) + F(x))",
            "He et al. 2016, Deep residual learning for image recognition",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 14, "width": 8},
        ),
        NetEntry(
            "wideresnet28_10",
            "trainoff.modules.nets.wide_resnet:WideResNet",
            "a wide residual net for small images, of depth 6n + 4; 36,479,194 parameters",
            "y = x + F(φ(norm(x)))",
            "Zagoruyko & Komodakis 2016, Wide residual networks",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 10, "widening": 2, "width": 4},
        ),
        NetEntry(
            "se_resnet50",
            "trainoff.modules.nets.se_resnet:SEResNet",
            "ResNet-50 with squeeze-and-excitation, a gate for each channel; 28,088,024 parameters",
            "y = φ(shortcut(x) + s · F(x)), s = σ(W₂ ReLU(W₁ mean(F(x))))",
            "Hu, Shen & Sun 2018, Squeeze-and-excitation networks",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 14, "width": 8, "reduction": 4},
        ),
        NetEntry(
            "dynamic_se_resnet",
            "trainoff.modules.nets.dynamic_se_resnet:DynamicSEResNet",
            "a ResNet whose kernels are mixed for each image by squeeze-and-excitation (dynamic convolution)",
            "y = (Σₖ πₖ Wₖ) ∗ x, π = softmax(V₂ ReLU(V₁ mean(x)) / τ)",
            "Chen et al. 2020, Dynamic convolution: attention over convolution kernels",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 10, "width": 4},
        ),
        NetEntry(
            "vit_tiny",
            "trainoff.modules.nets.vit:VisionTransformer",
            "the vision transformer on patches, ViT-Tiny by default; 5,717,416 parameters",
            "x ← x + attention(norm(x)), x ← x + W₂ φ(W₁ norm(x))",
            "Dosovitskiy et al. 2021, An image is worth 16x16 words",
            inputs=f"{_IMAGES}, sides that the patch divides",
            domain="images",
            tiny={"patch": 4, "width": 32, "depth": 2, "heads": 2, "hidden": 64},
        ),
        NetEntry(
            "tcn",
            "trainoff.modules.nets.tcn:TCN",
            "causal dilated convolutions over a series; the receptive field doubles with each block",
            "y = φ(x + F(x)), F of dilation 2ⁿ⁻¹; sees 1 + 2 (k − 1) (2ⁿ − 1) steps",
            "Bai, Kolter & Koltun 2018, An empirical evaluation of generic convolutional and recurrent networks",
            inputs="series (length,) or (channels, length)",
            domain="series",
            tiny={"width": 8, "depth": 3, "kernel": 3},
            tiny_shape=(2, 32),
        ),
        NetEntry(
            "dilated_cnn",
            "trainoff.modules.nets.dilated_cnn:DilatedCNN",
            "3 x 3 convolutions with growing dilation at full resolution",
            "y(p) = Σₙ W(pₙ) x(p + d pₙ); sees 1 + 2 Σ d pixels each way",
            "Yu & Koltun 2016, Multi-scale context aggregation by dilated convolutions",
            inputs=_IMAGES,
            domain="images",
            tiny={"dilations": [1, 2, 4], "width": 8},
        ),
        NetEntry(
            "adaptive_dilated_cnn",
            "trainoff.modules.nets.adaptive_dilated_cnn:AdaptiveDilatedCNN",
            "the same with dilations that adapt to the image at each position (deformable convolutions)",
            "y(p) = Σₙ W(pₙ) x(p + d pₙ + Δₙ(p)), Δ a convolution of x",
            "Dai et al. 2017, Deformable convolutional networks",
            inputs=_IMAGES,
            domain="images",
            tiny={"dilations": [1, 2], "width": 4},
        ),
        NetEntry(
            "cell_net",
            "trainoff.modules.nets.cell_net:CellNet",
            "cells, which are graphs of operations, in sequence, residual or dense: for architecture search",
            "hⱼ = Σᵢ opᵢⱼ(hᵢ) within a cell",
            "Liu et al. 2018, Hierarchical representations for efficient architecture search",
            inputs=_IMAGES,
            domain="images",
            tiny={"width": 4},
        ),
        NetEntry(
            "gpt2",
            "trainoff.modules.nets.gpt2:GPT2",
            "a causal transformer for language models; 124,439,808 parameters with 50,257 tokens",
            "x ← x + attention(norm(x)); x ← x + dense(norm(x))",
            "Radford et al. 2019, Language models are unsupervised multitask learners",
            inputs=_TOKENS,
            domain="tokens",
            tiny={"width": 32, "depth": 2, "heads": 4, "dropout": 0.0},
            tiny_shape=(12,),
        ),
        NetEntry(
            "bert",
            "trainoff.modules.nets.bert:Bert",
            "a transformer in both directions for masked language models or classes; 109,482,240 parameters",
            "x ← norm(x + attention(x)); x ← norm(x + dense(x))",
            "Devlin et al. 2019, BERT: pre-training of deep bidirectional transformers",
            inputs=_TOKENS,
            domain="tokens",
            tiny={"width": 32, "depth": 2, "heads": 4, "dropout": 0.0},
            tiny_shape=(12,),
        ),
        NetEntry(
            "transformer",
            "trainoff.modules.nets.transformer:Transformer",
            "encoder and decoder of attention, from sequence to sequence; 63,082,496 parameters with 37,000 tokens",
            "attention(Q, K, V) = softmax(QKᵀ / √d) V",
            "Vaswani et al. 2017, Attention is all you need",
            inputs=_TOKEN_PAIRS,
            domain="token pairs",
            tiny={"width": 32, "depth": 2, "heads": 4, "dropout": 0.0},
            tiny_shape=(12,),
        ),
        NetEntry(
            "seq2seq_lstm",
            "trainoff.modules.nets.seq2seq_lstm:Seq2SeqLSTM",
            "two LSTMs, from reversed sequence to sequence; attention: luong or bahdanau adds attention",
            "hₜ = LSTM(xₜ, hₜ₋₁); ŷₜ = softmax(Whₜ)",
            "Sutskever, Vinyals & Le 2014, Sequence to sequence learning with neural networks",
            inputs=_TOKEN_PAIRS,
            domain="token pairs",
            tiny={"width": 32, "depth": 2},
            tiny_shape=(12,),
        ),
    ],
    NetEntry,
    "trainoff.nets",
)

# The classes by their own names too, imported when first used.
_HOMES = class_homes(NETS)

__all__ = ["NETS", "NetEntry", *_HOMES]


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
