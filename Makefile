# Two doors for a newcomer: `make serve` and `make test`. The rest is for those who stay.
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 6379
DIR    ?= ./data

.PHONY: serve test quick check bench crash fuzz clean

$(VENV)/.base: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmdbredis needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.all: $(VENV)/.base
	$(BIN)/pip install --quiet --editable '.[test,check,bench]'
	touch $@

serve: $(VENV)/.base  ## run the server on PORT with its data in DIR
	mkdir -p $(DIR)
	$(BIN)/lmdbredis-server --port $(PORT) --dir $(DIR)

check: $(VENV)/.all  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check  ## everything that CI runs
	$(BIN)/pytest

quick: $(VENV)/.all  ## the suite without the tests marked slow
	$(BIN)/pytest -m 'not slow'

bench: $(VENV)/.all  ## beside valkey-server, results into benchmarks/
	$(BIN)/python -m benchmarks

crash: $(VENV)/.all  ## minutes of kills and power cuts
	$(BIN)/python -m tests.crash_campaign --seconds 300

fuzz: $(VENV)/.all  ## minutes of random commands and bytes against the oracle
	$(BIN)/pytest tests -k 'machine or fuzz' --hypothesis-profile=fuzz

clean:
	rm -rf $(VENV) build *.egg-info
