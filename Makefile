# Everything is installed into .venv from the lock files; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps

.DEFAULT_GOAL := help
.PHONY: help run test fleet check lint types imports bench fuzz lock clean

help: ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

run: $(VENV)/.installed ## install into .venv, then serve on PORT (8000)
	@exec $(BIN)/atelier up

test: $(VENV)/.installed-dev ## install, then run the tests
	$(BIN)/python -m pytest

fleet: $(VENV)/.installed-dev ## many processes on shared servers: callers, and a few kills under load
	$(BIN)/python -m pytest -m fleet --numprocesses=0 tests/e2e tests/chaos

check: lint types imports test fleet ## what CI runs: lint, types, import contracts, all tests

lint: $(VENV)/.installed-dev ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.installed-dev ## the rooms' one-way imports
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev ## print the figures (COMFYUI_URLS: measure that ComfyUI instead)
	$(BIN)/python -m bench

fuzz: $(VENV)/.installed-dev ## call every operation with made-up requests (FUZZ_EXAMPLES of each, FUZZ_SEED)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-200} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} \
	  $(BIN)/python -m pytest tests/api/test_schemathesis.py --show-capture=no

lock: $(VENV)/.installed-dev ## resolve the dependencies anew into the lock files
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml --upgrade \
	  --generate-hashes --no-annotate --no-header --quiet -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml --extra test --extra check \
	  -c requirements.lock --generate-hashes --no-annotate --no-header --quiet -o requirements-dev.lock

clean: ## remove .venv and caches (not ./data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "atelier needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python requirements.lock pyproject.toml
	@$(PIP) -r requirements.lock
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python requirements-dev.lock pyproject.toml
	@$(PIP) -r requirements-dev.lock
	@$(PIP) -e .
	@touch $@ $(VENV)/.installed
