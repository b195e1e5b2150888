# `make search` and `make test` are all the set-up there is: each builds .venv first if it must.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install install-dev search check test faults hostile sanitized gpu bench docs notebooks clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing celltune into $(VENV) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing celltune and its development tools into $(VENV) ..."
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed ## install celltune into .venv
install-dev: $(VENV)/.installed-dev ## install celltune with the development tools

search: install ## run the main job on the embedded, synthetic reviews
	$(BIN)/celltune launch configs/sample.yaml --name sample-$$(date +%Y%m%d-%H%M%S)
	@echo "Your own labelled texts: $(BIN)/celltune launch FILE.csv (docs/own-data.md)"

check: install-dev ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/typed && mkdir -p build/typed && cp -r api build/typed/celltune
	@cp -r search models data_prep build/typed/celltune/
	$(BIN)/mypy
	PYTHONPATH=build/typed $(BIN)/lint-imports

test: install-dev ## run the tests in two processes, one of which has Ray
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

faults: install-dev ## run the tests that kill processes, fill disks and cut links, and other long ones
	$(BIN)/python -m pytest tests/faults tests/integration/test_packs.py tests/integration/test_pretended_gpus.py -m "faults or not faults"

gpu: install-dev ## run the benchmark and the tests that need an NVIDIA GPU
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python -m pytest -m gpu tests

hostile: install-dev ## run every command on 6,000 hostile inputs, in at most 10 minutes
	$(BIN)/python benchmarks/hostile.py

sanitized: install-dev ## run the C++ code with sanitizers on random inputs for two minutes
	$(BIN)/python -m tests.sanitized.fuzz --seconds 120

bench: install-dev ## run every benchmark (long)
	@set -e; for file in benchmarks/[a-z]*.py; do \
	  grep -q 'import.*finish' $$file || continue; echo "== $$file"; $(BIN)/python $$file; done

docs: install-dev ## write docs/commands from the commands' own help
	$(BIN)/python docs/make_pages.py

notebooks: install-dev ## execute docs/notebooks and store their outputs
	$(BIN)/python docs/make_notebooks.py

clean: ## remove what was built, never an experiment
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
