# make demo        install, run the demo on generated scenes, end with the path of its report
# make test        install, lint, all tests (at most 40 minutes)
# make test-fast   install, the quick tests (at most 10 minutes)
# make lint        ruff and mypy
# make tables      write the tables of README.md and docs/ from the CSVs in results/, and the figures of docs/
#
# PYTHON is the interpreter to build with, VENV the environment, JOBS the test processes (0: in the runner itself).

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; \
	done)
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-fast lint tables

# torch and torchvision in one call, so that pip picks two that belong together.
$(VENV)/.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test-stamp: $(VENV)/.stamp
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

demo: $(VENV)/.stamp
	$(BIN)/tag2mask demo --out runs/demo

lint: $(VENV)/.test-stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pytest comes last: its summary ends the log.
test: lint
	$(BIN)/python -m pytest -n $(JOBS)

test-fast: $(VENV)/.test-stamp
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

tables: $(VENV)/.stamp
	$(BIN)/python docs/make_toy.py
	$(BIN)/python docs/make_kinds.py
	$(BIN)/python docs/make_tables.py
