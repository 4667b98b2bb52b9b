# The same targets run on a laptop and in CI. Everything is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Versions that are known to work together. `make newest` tries the newest of everything instead.
CONSTRAINTS ?= --constraint constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Test processes side by side: one more than a small machine has cores, for tests also wait.
JOBS ?= 3
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo check test test-browser bench chaos fuzz soak lint format newest deb deb-test clean

help:  ## Show this list
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# What the service needs, and nothing for developers.
$(VENV)/service: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(CONSTRAINTS) --editable ".[postgres]"
	touch $@

# pip knows dependency groups since 25.1; Debian 12 has 23.0.
$(VENV)/tools: $(VENV)/service
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet $(CONSTRAINTS) --group dev
	touch $@

demo: $(VENV)/service  ## Play seven recorded calls through the real service
	$(BIN)/fsplanfix demo

check: lint  ## Check format, style and types, then run the fast tests
	$(PYTEST) --numprocesses $(JOBS) tests/calls tests/planfix tests/outbox

lint: $(VENV)/tools  ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

ifdef T
test: $(VENV)/tools
	$(PYTEST) --numprocesses $(JOBS) -m "not browser" $(T)
else
test: lint  ## Run every test that needs no browser; make test T=tests/calls runs some
	$(PYTEST) --numprocesses $(JOBS) --dist worksteal -m "not browser" --cov --cov-report=
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --format=total --fail-under=97 --include='fsplanfix/calls/*'
	$(BIN)/coverage report --format=total --fail-under=95 --include='fsplanfix/freeswitch/*'
endif

test-browser: $(VENV)/tools  ## Run the tests in Debian's chromium
	$(PYTEST) -m browser

bench: $(VENV)/tools  ## Measure against references (25 minutes)
	$(BIN)/python -m bench

chaos: $(VENV)/tools  ## Kill, cut and starve the service during 800 calls on each database
	$(BIN)/python -m chaos
	$(BIN)/python -m chaos.companies

fuzz: $(VENV)/tools  ## Send 200,000 hostile inputs (5 minutes)
	$(BIN)/python -m fuzz

soak: $(VENV)/tools  ## Play 20 calls a second and look for leaks (10 minutes)
	$(BIN)/python -m soak

format: $(VENV)/tools  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

newest:  ## Run every test with the newest version of every dependency
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=
	.venv-newest/bin/python -m pip freeze --exclude-editable > .venv-newest/constraints.txt
	@echo "To use these versions from now on: cp .venv-newest/constraints.txt constraints.txt"

deb:  ## Build a Debian package into dist/
	contrib/debian/build dist

deb-test:  ## Install, upgrade and purge that package in a Debian of its own (as root, 5 minutes)
	contrib/debian/test

clean:  ## Delete everything that make made
	rm -rf .venv .venv-newest build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
