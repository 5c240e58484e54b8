from __future__ import annotations

import subprocess
import sys

import pytest

import trainoff.datamodules
from trainoff.datamodules import DATAMODULES
from trainoff.seeds import derive_seed


def test_importing_the_package_and_its_registry_imports_nothing_heavy():
    code = (
        "import sys, trainoff.seeds, trainoff.datamodules as d; d.DATAMODULES['digits'].citation\n"
        "print([m for m in ('torch', 'lightning', 'numpy', 'sklearn', 'datasets', 'mnist1d') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_public_name_resolves_and_an_unknown_one_does_not():
    for name in trainoff.datamodules.__all__:
        assert getattr(trainoff.datamodules, name) is not None
        assert name in dir(trainoff.datamodules)
    with pytest.raises(AttributeError, match="no attribute 'Irises'"):
        _ = trainoff.datamodules.Irises


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "diabetes", "fashion_mnist", "mnist1d"])
def test_the_registry_knows_the_facts(name):
    entry = DATAMODULES[name]
    assert entry.load().facts is entry
    assert entry.summary
    assert entry.citation == entry.paper != ""
    assert entry.licence
    assert entry.num_samples > 0
    assert entry.size_bytes > 0
    assert entry.input_shape


def test_derived_seeds_differ_by_every_word_and_never_change():
    seeds = {
        derive_seed(*words) for words in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "a,b"), (0, 1), (0, "1")]
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    # sha256('[0, "order"]'), the first eight bytes, without the last bit
    assert derive_seed(0, "order") == 7990785514659823761
