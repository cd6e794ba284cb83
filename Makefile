# Only Python, make and git are needed. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo mnist lenet test test-all lint bench engines keep known paper-gpu ship results schedulers docs wheel clean

setup: $(VENV)/.installed

demo: setup
	$(BIN)/intermode reproduce gaussian-1d --tier quick

mnist: setup
	$(BIN)/intermode data mnist

# the feature extractor that is shipped: a few minutes on one core
lenet: mnist
	$(BIN)/python benchmarks/ship_lenet.py

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(VENV)/.installed-test $(VENV)/.installed-docs lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/bench.py

engines: $(VENV)/.installed-test
	$(BIN)/python benchmarks/engines.py

keep: setup
	$(BIN)/python benchmarks/keep_result.py keep $(RUN) $(JOBS)

known: setup
	$(BIN)/python benchmarks/keep_result.py known $(RESULT) $(JOBS)

# on a machine with a GPU: slices of nine minutes, each the same command
paper-gpu: setup
	$(BIN)/python benchmarks/paper_gpu.py runs/paper-gpu

ship: setup
	$(BIN)/python benchmarks/ship.py $(RUN) $(NAME)

results: setup
	$(BIN)/python benchmarks/results_table.py

schedulers: setup
	$(BIN)/python benchmarks/schedulers_table.py

# the site, into build/site: a warning or a dead link is an error
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/site/pages.py
	$(BIN)/python -m sphinx -qW --keep-going -b html -d build/site-trees -c docs/site build/site-source build/site
	$(BIN)/python docs/site/links.py build/site


# into dist, once what is committed makes one that works in an empty environment
wheel: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 1 -m "slow or not slow" tests/test_wheel.py
	$(BIN)/python -m build --no-isolation

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,track]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
