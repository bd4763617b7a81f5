# Every target does all its own set-up: a virtual environment in .venv and the pinned versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Test processes side by side; each computes with one thread.
JOBS ?= 2
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.PHONY: demo kernels test test-lowest fast lint check bench docs clean
.DELETE_ON_ERROR:

demo: .venv/installed  ## the whole road on sample messages
	$(BIN)/graft demo

kernels: .venv/bin/python  ## the compiled parts, where their sources have changed; without a compiler it says so
	-$(BIN)/python src/graftlm/kernels/compilation.py

test: .venv/installed-dev kernels  ## every test
	$(BIN)/python -m pytest -n $(JOBS)

test-lowest: .venv/installed-lowest kernels  ## the tests that touch transformers, on the lowest supported version
	PYTHONPATH=.venv/lowest $(BIN)/python -m pytest -n $(JOBS) -m "not slow" tests/models tests/training tests/test_training_run.py

fast: .venv/installed-dev kernels  ## the tests that take seconds
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow and not real"

lint: .venv/installed-dev  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

check: lint test  ## what CI runs

bench: .venv/installed-dev kernels  ## every figure of the docs, measured again (hours)
	$(BIN)/python benchmarks/against_stock.py
	$(BIN)/python benchmarks/real_data.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/pretraining_speed.py
	$(BIN)/python benchmarks/transfer.py --plot
	$(BIN)/python benchmarks/domain.py
	$(BIN)/python benchmarks/bundled_corpus.py corpus && $(BIN)/python benchmarks/optimizers.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/prediction_speed.py
	$(BIN)/python benchmarks/prediction_speed.py --threads 1
	$(BIN)/python benchmarks/inference_speed.py

docs: .venv/installed-docs  ## the site, into site/
	$(BIN)/mkdocs build --strict

clean:  ## the environment and everything built
	rm -rf .venv build dist site .pytest_cache .ruff_cache .import_linter_cache
	rm -f src/graftlm/kernels/_kernels_*.so

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "GraftLM needs Python 3.11 or newer (make PYTHON=python3.12)"'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[offline,dev]"
	touch $@

.venv/installed-lowest: .venv/installed-dev constraints-lowest.txt
	$(PIP) install --quiet --no-deps --target .venv/lowest --upgrade --requirement constraints-lowest.txt
	touch $@

.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[offline,docs]"
	touch $@
