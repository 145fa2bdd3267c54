# make demo   see it work: installs, runs the quickstart's pipeline, says how to look at it
# make lint   style, types, layers;  make docs: the documentation into site/, a broken link fails
# make test   the tests of some minutes;  make test-slow: those that start processes, and one kill of each command
# make test-browser       drives the labeling page in an installed Chromium
# make test-label-studio  installs Label Studio (795 MB) into an environment of its own and labels in it
# make check  lint, docs, wheel, test and test-slow;  make test-all: with clusters and 60 kills of each command, hours
# make bench  what each part takes beside its floor or a peer, into benchmarks/README.md; MNIST is below DATA_ROOT
PYTHON ?= python3
DATA_ROOT ?= data
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# the slow lane waits for processes and servers a good part of its time, so it has a worker more than there are cores
SLOW_WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# compiled modules make each later start several times faster
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo docs wheel test test-slow test-all test-browser test-label-studio lint check bench clean

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

# with --quiet mkdocs counts no warnings, and --strict nothing
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "documentation: site/index.html   with its search: $(BIN)/mkdocs serve"

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	@touch $@

lint: install
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: install
	$(BIN)/uv build --wheel --quiet --out-dir dist

test: install
	$(PYTEST) -m "not slow and not kills"

test-slow: install
	$(PYTEST) -n $(SLOW_WORKERS) -m "(slow or kills) and not clusters"

test-all: install
	FKAL_KILLS=60 $(PYTEST)

test-browser: install
	$(BIN)/uv pip install --quiet --target $(VENV)/playwright 'playwright>=1.50'
	PYTHONPATH=$(VENV)/playwright $(BIN)/python -m pytest -n 0 -rs tests/labeling/test_page_in_browser.py

test-label-studio: install
	$(BIN)/uv venv --quiet --allow-existing $(VENV)/label-studio
	$(BIN)/uv pip install --quiet --python $(VENV)/label-studio/bin/python 'label-studio==1.23.2'
	FKAL_LABEL_STUDIO=$(CURDIR)/$(VENV)/label-studio/bin/label-studio \
		$(BIN)/python -m pytest -n 0 -rs tests/labeling/test_real_label_studio.py

check: lint docs wheel test test-slow

# the peers have an environment of their own, which sees the project's packages beneath its own
PEERS := .venv-peers
SITE := import sysconfig; print(sysconfig.get_path("purelib"))

$(PEERS)/installed: $(VENV)/installed
	$(PYTHON) -m venv $(PEERS)
	( $(BIN)/python -c '$(SITE)'; echo '$(CURDIR)/src' ) > "$$($(PEERS)/bin/python -c '$(SITE)')/project.pth"
	for peer in scikit-activeml apricot-select submodlib-py; do \
		$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$peer \
			|| echo "$$peer cannot be installed; its rows are left out" >&2; done
	@touch $@

bench: $(PEERS)/installed
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench.py --data-root $(DATA_ROOT)

clean:
	rm -rf $(VENV) $(PEERS) runs mlflow.db* mlartifacts report dvc_plots site dist
	cd data && rm -rf plan splits pretrained descriptors experiments metrics curves timings
