"""Optimizers against their published update rules, written down in NumPy; and against the rates of theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainoff.modules import Recipe
from trainoff.modules.optimizer_building import build_optimizer

STEPS = 50
CURVATURE = np.array([0.3, 1.0, 4.0, 0.05])


def gradient(theta: np.ndarray) -> np.ndarray:
    """Of ½ Σ cᵢθᵢ² + Σ cos θᵢ: neither constant nor linear."""
    return CURVATURE * theta - np.sin(theta)


class Weights(torch.nn.Module):
    """A matrix, so that weight decay does not spare it as it spares biases."""

    def __init__(self, start) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64).reshape(2, -1))


def trained(choice, start, gradient_of=gradient, steps=STEPS):
    """The weights after each step of the recipe's optimizer."""
    module = Weights(start)
    optimizer = build_optimizer(Recipe(choice), module)
    path = []
    for step in range(steps):
        flat = module.theta.detach().numpy().reshape(-1)
        slope = gradient_of(flat) if gradient_of is gradient else gradient_of(flat, step)
        module.theta.grad = torch.from_numpy(np.asarray(slope, dtype=np.float64)).reshape(2, -1)
        optimizer.step()
        path.append(module.theta.detach().numpy().reshape(-1).copy())
    return np.array(path)


def sgd(theta, lr=0.1):
    while True:
        theta = theta - lr * gradient(theta)
        yield theta


def momentum(theta, lr=0.1, mu=0.9):
    """Sutskever et al. 2013 in torch's form: v ← μv + g, θ ← θ − lr · v."""
    v = np.zeros_like(theta)
    while True:
        v = mu * v + gradient(theta)
        theta = theta - lr * v
        yield theta


def nesterov(theta, lr=0.1, mu=0.9):
    v = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        v = mu * v + g
        theta = theta - lr * (g + mu * v)
        yield theta


def adam(theta, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, l2=0.0):
    """Kingma & Ba 2015, algorithm 1; with ``decay`` or ``l2`` Loshchilov & Hutter 2019, algorithm 2."""
    m, v, t = np.zeros_like(theta), np.zeros_like(theta), 0
    while True:
        t += 1
        g = gradient(theta) + l2 * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        step = lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        theta = theta - step - lr * decay * theta
        yield theta


def rmsprop(theta, lr=0.05, alpha=0.99, eps=1e-8):
    """Hinton's lecture 6e."""
    v = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        v = alpha * v + (1 - alpha) * g**2
        theta = theta - lr * g / (np.sqrt(v) + eps)
        yield theta


def adagrad(theta, lr=0.5, eps=1e-10):
    """Duchi et al. 2011, with diagonal matrices."""
    total = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        total = total + g**2
        theta = theta - lr * g / (np.sqrt(total) + eps)
        yield theta


def lion(theta, lr=0.01, beta1=0.9, beta2=0.99, decay=0.1):
    """Chen et al. 2023, algorithm 2."""
    m = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        update = np.sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
        theta = theta - lr * (update + decay * theta)
        yield theta


def adadelta(theta, lr=1.0, rho=0.9, eps=1e-6):
    """Zeiler 2012, algorithm 1."""
    v, u = np.zeros_like(theta), np.zeros_like(theta)
    while True:
        g = gradient(theta)
        v = rho * v + (1 - rho) * g**2
        step = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * step**2
        theta = theta - lr * step
        yield theta


def adamax(theta, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8):
    """Kingma & Ba 2015, algorithm 2."""
    m, u, t = np.zeros_like(theta), np.zeros_like(theta), 0
    while True:
        t += 1
        g = gradient(theta)
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, abs(g) + eps)
        theta = theta - lr / (1 - beta1**t) * m / u
        yield theta


def nadam(theta, lr=0.05, beta1=0.9, beta2=0.999, eps=1e-8, decay=4e-3):
    """Dozat 2016, algorithm 2, with its schedule of μ."""
    m, v, t, product = np.zeros_like(theta), np.zeros_like(theta), 0, 1.0
    while True:
        t += 1
        g = gradient(theta)
        mu, later = (beta1 * (1 - 0.5 * 0.96 ** (step * decay)) for step in (t, t + 1))
        product *= mu
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        mixed = later * m / (1 - product * later) + (1 - mu) * g / (1 - product)
        theta = theta - lr * mixed / (np.sqrt(v / (1 - beta2**t)) + eps)
        yield theta


def radam(theta, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8):
    """Liu et al. 2020, algorithm 2."""
    m, v, t, longest = np.zeros_like(theta), np.zeros_like(theta), 0, 2 / (1 - beta2) - 1
    while True:
        t += 1
        g = gradient(theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        step = lr * m / (1 - beta1**t)
        if length > 5:
            top = (length - 4) * (length - 2) * longest
            step = step * math.sqrt(top / ((longest - 4) * (longest - 2) * length))
            step = step * math.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        theta = theta - step
        yield theta


def asgd(theta, lr=0.1, lambd=1e-2, alpha=0.75):
    """Bottou's asgd: η = lr / (1 + λ·lr·t)^α, θ ← (1 − λη)θ − ηg."""
    t, eta = 0, lr
    while True:
        theta = (1 - lambd * eta) * theta - eta * gradient(theta)
        t += 1
        eta = lr / (1 + lambd * lr * t) ** alpha
        yield theta


def rprop(theta, lr=0.01, shrink=0.5, grow=1.2):
    """Riedmiller & Braun 1993, in the form that takes no step where the sign turns (iRprop−)."""
    size, before = np.full_like(theta, lr), np.zeros_like(theta)
    while True:
        g = gradient(theta)
        turn = np.sign(g * before)
        size = np.clip(np.where(turn > 0, grow * size, np.where(turn < 0, shrink * size, size)), 1e-6, 50)
        before = np.where(turn < 0, 0.0, g)
        theta = theta - size * np.sign(before)
        yield theta


def adabelief(theta, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8):
    """Zhuang et al. 2020, algorithm 2."""
    m, s, t = np.zeros_like(theta), np.zeros_like(theta), 0
    while True:
        t += 1
        g = gradient(theta)
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
        theta = theta - lr * m / (1 - beta1**t) / (np.sqrt(s / (1 - beta2**t)) + eps)
        yield theta


def adan(theta, lr=0.05, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8):
    """Xie et al. 2022, algorithm 1, with bias corrections, its βs being 1 − ours."""
    m, v, n, t, before = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta), 0, None
    while True:
        t += 1
        g = gradient(theta)
        change = np.zeros_like(g) if before is None else g - before
        before = g
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * change
        n = beta3 * n + (1 - beta3) * (g + beta2 * change) ** 2
        mixed = m / (1 - beta1**t) + beta2 * v / (1 - beta2**t)
        theta = theta - lr * mixed / (np.sqrt(n / (1 - beta3**t)) + eps)
        yield theta


def ademamix(theta, lr=0.01, beta1=0.9, beta2=0.999, beta3=0.9999, alpha=5.0, eps=1e-8):
    """Pagliardini, Ablin & Grangier 2024, eq. AdEMAMix, without schedules of α and β₃."""
    fast, slow, v, t = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta), 0
    while True:
        t += 1
        g = gradient(theta)
        fast = beta1 * fast + (1 - beta1) * g
        slow = beta3 * slow + (1 - beta3) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - lr * (fast / (1 - beta1**t) + alpha * slow) / (np.sqrt(v / (1 - beta2**t)) + eps)
        yield theta


def adopt(theta, lr=0.05, beta1=0.9, beta2=0.9999, eps=1e-6):
    """Taniguchi et al. 2024, algorithm 2: the first gradient makes v alone; then clipped by the 4th root of t."""
    v, m, t = gradient(theta) ** 2, np.zeros_like(theta), 0
    yield theta
    while True:
        t += 1
        g = gradient(theta)
        m = beta1 * m + (1 - beta1) * np.clip(g / np.maximum(np.sqrt(v), eps), -(t**0.25), t**0.25)
        theta = theta - lr * m
        v = beta2 * v + (1 - beta2) * g**2
        yield theta


def lamb(theta, lr=0.02, beta1=0.9, beta2=0.999, eps=1e-6, decay=0.1):
    """You et al. 2020, algorithm 2, as the library has it: m's bias correction lengthens the step, v has none."""
    m, v, t = np.zeros_like(theta), np.zeros_like(theta), 0
    while True:
        t += 1
        g = gradient(theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        ratio = m / (np.sqrt(v) + eps) + decay * theta
        step = lr / (1 - beta1**t) * min(np.linalg.norm(theta), 10) / (np.linalg.norm(ratio) + eps)
        theta = theta - step * ratio
        yield theta


def schedule_free_adamw(y, lr=0.05, beta1=0.9, beta2=0.999, eps=1e-8):
    """Defazio et al. 2024, algorithm 1, with a constant rate: where the gradient is taken, y = (1−β)z + βx."""
    x = z = y
    v, t = np.zeros_like(y), 0
    while True:
        t += 1
        g = gradient(y)
        v = beta2 * v + (1 - beta2) * g**2
        z = z - lr * g / (np.sqrt(v / (1 - beta2**t)) + eps)
        x = x + (z - x) / t
        y = (1 - beta1) * z + beta1 * x
        yield y


def prodigy(theta, beta1=0.9, beta2=0.999, eps=1e-8):
    """Mishchenko & Defazio 2024, algorithm 4, with γ = 1: the distance d to the solution is estimated on the way."""
    start, d, r, s = theta, 1e-6, 0.0, np.zeros_like(theta)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    while True:
        g = gradient(theta)
        r = math.sqrt(beta2) * r + d**2 * g @ (start - theta)
        s = math.sqrt(beta2) * s + d**2 * g
        m = beta1 * m + (1 - beta1) * d * g
        v = beta2 * v + (1 - beta2) * d**2 * g**2
        step, d = d, max(d, r / abs(s).sum())
        theta = theta - step * m / (np.sqrt(v) + d * eps)
        yield theta


RULES = {
    "sgd": ({"name": "sgd", "lr": 0.1}, sgd),
    "momentum": ({"name": "sgd", "lr": 0.1, "momentum": 0.9}, momentum),
    "nesterov": ({"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}, nesterov),
    "adam": ({"name": "adam", "lr": 0.1}, adam),
    "adamw": ({"name": "adamw", "lr": 0.1, "weight_decay": 0.2}, lambda theta: adam(theta, decay=0.2)),
    "adam with l2": ({"name": "adam", "lr": 0.1, "weight_decay": 0.2}, lambda theta: adam(theta, l2=0.2)),
    "rmsprop": ({"name": "rmsprop", "lr": 0.05}, rmsprop),
    "adagrad": ({"name": "adagrad", "lr": 0.5}, adagrad),
    "adadelta": ({"name": "adadelta", "lr": 1.0, "rho": 0.9}, adadelta),
    "adamax": ({"name": "adamax", "lr": 0.1}, adamax),
    "nadam": ({"name": "nadam", "lr": 0.05}, nadam),
    "radam": ({"name": "radam", "lr": 0.1, "betas": [0.9, 0.99]}, radam),
    "asgd": ({"name": "asgd", "lr": 0.1, "lambd": 1e-2}, asgd),
    "rprop": ({"name": "rprop", "lr": 0.01}, rprop),
    "adabelief": ({"name": "adabelief", "lr": 0.1, "eps": 1e-8}, adabelief),
    "adan": ({"name": "adan", "lr": 0.05}, adan),
    "ademamix": ({"name": "ademamix", "lr": 0.01}, ademamix),
    "adopt": ({"name": "adopt", "lr": 0.05}, adopt),
    "lamb": ({"name": "lamb", "lr": 0.02, "weight_decay": 0.1, "weight_decouple": False}, lamb),
    "schedulefreeadamw": ({"name": "schedulefreeadamw", "lr": 0.05}, schedule_free_adamw),
    "prodigy": ({"name": "prodigy", "lr": 1.0}, prodigy),
    "kahan_sgd": ({"name": "kahan_sgd", "lr": 0.1, "momentum": 0.9}, momentum),
    "lion": ({"name": "lion", "lr": 0.01, "betas": [0.9, 0.99], "weight_decay": 0.1}, lion),
}
START = np.array([1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize("name", RULES)
def test_fifty_steps_are_the_rules_written_here(name):
    choice, rule = RULES[name]
    expected = [theta for theta, _ in zip(rule(START), range(STEPS), strict=False)]
    tolerance = 2e-5 if name == "prodigy" else 1e-6  # whose distance the library sums in float32
    np.testing.assert_allclose(trained(choice, START), expected, rtol=0, atol=tolerance)


def reddi(theta, step):
    """The gradient of f: Cx at every third step, −x at the others (Reddi, Kale & Kumar 2018, section 3)."""
    return np.full_like(theta, 4.0 if step % 3 == 0 else -1.0)


def test_adam_diverges_on_reddis_example_and_amsgrad_does_not():
    """The mean slope is +2/3, so that x should fall; Adam's short memory of the large one lets x rise."""
    short = {"lr": 0.05, "betas": [0.0, 1 / (1 + 4**2)]}
    adam_path = trained({"name": "adam", **short}, [0.0, 0.0], reddi, steps=900)[:, 0]
    cured_path = trained({"name": "adam", "amsgrad": True, **short}, [0.0, 0.0], reddi, steps=900)[:, 0]
    assert adam_path[-1] > 5
    assert (np.diff(adam_path[2::3]) > 0).all()
    assert cured_path[-1] < -5
    assert (np.diff(cured_path[2::3]) < 0).all()


def contraction(choice, condition):
    """By how much the error shrinks at a step, on ½(θ₁² + κθ₂²), in the mean over the last hundred."""
    curvature = np.array([1.0, condition])
    path = trained(choice, [1.0, 1.0], lambda theta, _: curvature * theta, steps=300)
    errors = np.linalg.norm(path, axis=1)
    return (errors[-1] / errors[-101]) ** (1 / 100)


def test_textbook_rates_on_an_ill_conditioned_quadratic():
    """(κ−1)/(κ+1) for gradient descent, (√κ−1)/(√κ+1) for heavy ball, 1 − 1/√κ or better for Nesterov's."""
    condition = 100.0
    root = math.sqrt(condition)
    descent = contraction({"name": "sgd", "lr": 2 / (1 + condition)}, condition)
    heavy = {"name": "sgd", "lr": (2 / (root + 1)) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2}
    # Nesterov's scheme for strong convexity: lr = 1/L, μ = (√κ−1)/(√κ+1) (Nesterov 2004, section 2.2.1).
    nesterovs = {"name": "sgd", "lr": 1 / condition, "momentum": (root - 1) / (root + 1), "nesterov": True}
    heavy_ball, accelerated = contraction(heavy, condition), contraction(nesterovs, condition)
    assert descent == pytest.approx((condition - 1) / (condition + 1), abs=1e-6)
    # A double root: the error is t·ρᵗ, whose mean factor over steps 200 to 300 is ρ·(3/2)^(1/100).
    assert heavy_ball == pytest.approx((root - 1) / (root + 1) * 1.5**0.01, abs=2e-3)
    assert accelerated == pytest.approx((1 - 1 / root) * 1.5**0.01, abs=2e-3)
    assert heavy_ball < accelerated < descent
