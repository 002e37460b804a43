# `make help` lists the targets. Everything runs from .venv, which `make setup` fills;
# nothing is installed outside this folder.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
# Set on some machines; without byte-code every Airflow start takes two to three times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test thorough check bench locks browser format clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.complete ## Install the project and its tools into .venv (needs Python 3.11 with pip)

$(VENV)/.complete: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv sync --frozen --quiet --compile-bytecode --python $(BIN)/python
	@touch $@
	@echo "Ready: $(BIN)/openmwaa"

demo: setup ## Start the service, create an environment, run the ETL example on real data
	@$(BIN)/openmwaa demo

test: setup browser ## Run the tests against the real services and real Airflow
	@$(BIN)/pytest $(T)

thorough: setup browser ## Also the tests that take long: every change, version moves, snapshots, faults on every version
	@$(BIN)/pytest -m "" $(T)

check: setup ## Lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## Every figure of the README, both sides in one run; B="--only create --repeat 1" for some
	@$(BIN)/python -m benchmarks $(B)

locks: setup ## Resolve the Airflow runtimes' lock files again, and read the options they know
	@$(BIN)/python tools/locks.py
	@$(BIN)/python tools/known_options.py

browser: ## Install Chromium for the browser tests if the machine has none (Debian, needs root)
	@tools/install_browser.sh

format: setup ## Format the code and sort the imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and caches; state in the home directory stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
