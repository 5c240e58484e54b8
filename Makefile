# `make demo` and `make test` work from a fresh clone with Python >= 3.10 and make; both keep to .venv.
PYTHON ?= python3
BIN := .venv/bin
# One torch thread a process: two processes with two threads each fight over two cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check bench bench-executors chaos docs clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	rm -rf build
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $@

demo: .venv/installed
	$(BIN)/trainoff run digits

test: .venv/installed-test
	$(BIN)/pytest -n 2 -m 'not slow'

test-slow: .venv/installed-test
	$(BIN)/pytest -n 2 -m slow

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ratios, interleaved in one process: steps against a hand-written loop; a board of 10,000 records.
bench: .venv/installed
	$(BIN)/python -m trainoff.benchmarks.measure_steps
	$(BIN)/python -m trainoff.leaderboards.measure_large_board

# 10,000 trials that train nothing through each executor, and suites of up to 100,000 trials planned.
bench-executors: .venv/installed-test
	$(BIN)/python -m trainoff.benchmarks.executors.measure_executors

# kill -9, full disks, lost machines: at most ten minutes, and a table; the status is 1 where anything was lost.
chaos: .venv/installed-test
	$(BIN)/python tests/chaos.py

docs: .venv/installed-test
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build site *.egg-info
