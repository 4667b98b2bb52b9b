# The same targets run on a laptop and in CI. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test half-1 half-2 test-browser bench chaos fuzz soak lint format clean

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

# Two halves side by side: most tests wait for programs they have started.
test: lint
	$(MAKE) --no-print-directory -j2 --output-sync=target half-1 half-2
	$(BIN)/coverage combine .coverage-1 .coverage-2
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --format=total --fail-under=97 --include='fsplanfix/calls/*'
	$(BIN)/coverage report --format=total --fail-under=95 --include='fsplanfix/freeswitch/*'

half-1: .venv/installed
	COVERAGE_FILE=.coverage-1 $(BIN)/python -m pytest -m "not browser" --cov --cov-report= $(wildcard tests/test_[a-l]*.py) tests/calls

half-2: .venv/installed
	COVERAGE_FILE=.coverage-2 $(BIN)/python -m pytest -m "not browser" --cov --cov-report= \
		$(filter-out $(wildcard tests/test_[a-l]*.py) tests/calls tests/browser,$(wildcard tests/test_*.py) $(patsubst %/__init__.py,%,$(wildcard tests/*/__init__.py)))

test-browser: .venv/installed
	$(BIN)/python -m pytest -m browser

bench: .venv/installed
	$(BIN)/python -m bench

chaos: .venv/installed
	$(BIN)/python -m chaos

fuzz: .venv/installed
	$(BIN)/python -m fuzz

soak: .venv/installed
	$(BIN)/python -m soak

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
