# make demo   see it work: installs, runs the quickstart's pipeline, says how to look at it
# make test-all   the tests with 60 kills of each command instead of one, which takes hours
# make test   the tests;  make lint: style, types, layers;  make check: what CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# compiled modules make each later start several times faster
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-all lint check clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fkal needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	@echo
	@echo "figures and tables: report/   tables: $(BIN)/dvc metrics show   again: make demo runs what has changed"
	@echo "compare the methods in MLflow: $(BIN)/fkal ui"

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-all: install
	FKAL_KILLS=60 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: lint test

clean:
	rm -rf $(VENV) runs mlflow.db* mlartifacts report dvc_plots
	cd data && rm -rf plan splits pretrained descriptors experiments metrics curves timings
