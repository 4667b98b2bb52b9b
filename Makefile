# The same targets run on a laptop and in CI. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-browser bench chaos fuzz lint format clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[postgres,dev]"
	touch $@

demo: .venv/installed
	$(BIN)/fsplanfix demo

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -m "not browser" --cov --cov-report=
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --format=total --fail-under=95 --include='fsplanfix/calls/*,fsplanfix/freeswitch/*'

test-browser: .venv/installed
	$(BIN)/python -m pytest -m browser

bench: .venv/installed
	$(BIN)/python -m bench

chaos: .venv/installed
	$(BIN)/python -m chaos

fuzz: .venv/installed
	$(BIN)/python -m fuzz

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
