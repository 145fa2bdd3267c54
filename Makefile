# make demo   see it work: installs, runs the quickstart's pipeline, says how to look at it
# make test-all   the tests with 60 kills of each command instead of one, which takes hours
# make docs   the documentation into site/; a broken link fails
# make test   the tests;  make lint: style, types, layers;  make check: what CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# compiled modules make each later start several times faster
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo docs test test-all lint check clean

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

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "documentation: site/index.html   with its search: $(BIN)/mkdocs serve"

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	@touch $@

lint: install
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-all: install
	FKAL_KILLS=60 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: lint test

clean:
	rm -rf $(VENV) runs mlflow.db* mlartifacts report dvc_plots site
	cd data && rm -rf plan splits pretrained descriptors experiments metrics curves timings
