# Two commands do everything on a machine that has only Python and make:  make demo   and   make test
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compile what is imported once, not in every process.
unexport PYTHONDONTWRITEBYTECODE
# Hospital software calls no one.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help install demo test test-slow e2e faults check docs lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## virtual environment with the locked dependencies and the five console scripts

$(VENV)/bin/uv: requirements-bootstrap.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v.major}.{v.minor}; give another one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	touch $@

$(VENV)/.installed: $(VENV)/bin/uv requirements.lock pyproject.toml
	$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: install  ## a synthetic federation on this machine: trains every arm, prints the AUROC table, writes runs/demo
	$(BIN)/more-sim run simulation/configs/demo.toml --out runs/demo --overwrite

# Three parts at once, one thread each: with models this small, a second thread costs more than it brings, and the part
# with real processes mostly waits for them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"
FIRST_PART := tests/e2e tests/unit/more_model
SECOND_PART := tests/contract tests/browser tests/unit/privacy tests/unit/simulation

test: install  ## the test suite (under 10 minutes on two cores)
	@mkdir -p .pytest_cache; \
	$(PYTEST) $(FIRST_PART) >.pytest_cache/first-part.log 2>&1 & first=$$!; \
	$(PYTEST) $(SECOND_PART) >.pytest_cache/second-part.log 2>&1 & second=$$!; \
	$(PYTEST) tests $(patsubst %,--ignore=%,$(FIRST_PART) $(SECOND_PART)); rest=$$?; \
	wait $$first; first=$$?; wait $$second; second=$$?; \
	cat .pytest_cache/first-part.log .pytest_cache/second-part.log; exit $$((rest | first | second))

test-slow: install  ## the tests too long for every run (Flower's own runtimes)
	$(BIN)/python -m pytest -m slow tests

e2e: install  ## a coordinator and three hospitals as processes of their own, over TLS: the same bits as the simulation
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/e2e/test_deployment.py

faults: install  ## kill -9 at random moments, cut lines, full disks, hostile sites and coordinators (about 40 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/faults

check: install  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(VENV)/bin/uv  ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -q -o requirements.lock

docs: install  ## renew docs/cli.md from the commands' own help
	$(BIN)/python docs/generate_cli.py

clean:  ## remove the environment and what runs have written
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
