# make demo   train ce, crt and lmd on drawn images, compare them and write a report (minutes, two cores)
# make test   lint and the whole test suite, types among it, in JOBS processes: one more than two cores, as some waits
# make lint   lint and types alone
# make docs   the documentation as a site that opens from disk, in build/site
# All make a virtual environment in .venv if there is none and install what they need.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RESULTS ?= results
JOBS ?= 3

.PHONY: demo test lint style docs clean

demo: $(VENV)/.installed
	$(BIN)/lmdbench run --method ce --dataset demo --results $(RESULTS)
	$(BIN)/lmdbench run --method crt --dataset demo --results $(RESULTS)
	$(BIN)/lmdbench run --method lmd --dataset demo --results $(RESULTS)
	$(BIN)/lmdbench compare --dataset demo --results $(RESULTS)
	$(BIN)/lmdbench report --dataset demo --results $(RESULTS) --output $(RESULTS)/demo.html
	@echo "ce loses the tail; crt and lmd train a new head on balanced features and win it back. lmd stays below crt:"
	@echo "its stage 1 follows a teacher that averages a training from random weights (its authors begin at pretrained ones)."

test: style
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=20 --durations-min=5

lint: style
	$(BIN)/mypy

style: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	$(BIN)/lmdbench results leaderboard --repository results/reference --output build/site/leaderboard
	@echo "build/site/index.html: open it in a browser"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmdbench needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,offline]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
