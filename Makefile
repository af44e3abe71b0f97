# Two doors for a newcomer: `make serve` and `make test`. The rest is for those who stay.
PORT   ?= 6379
DIR    ?= ./data
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check

# A Python of the PATH that is new enough and can make virtual environments (Debian's needs python3-venv for that): of the first version
# here that is there, the quickest one. A Python that was built without optimisations, as pyenv does, makes this server a fifth slower.
PYTHON ?= $(shell IFS=:; for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	found=$$(for dir in $$PATH; do s=$$("$$dir/$$name" -I benchmarks/interpreter.py 2>/dev/null) && echo "$$s $$dir/$$name"; done | sort -g | head -n 1); \
	test -n "$$found" && echo "$$found" | cut -d " " -f 2- && exit; done)

.PHONY: serve check test quick docs bench crash fuzz clean

$(VENV)/.base: pyproject.toml
	@python='$(PYTHON)'; test -n "$$python" && "$$python" -I benchmarks/interpreter.py >/dev/null || { \
	  echo "lmdbredis needs Python 3.11 or newer with the modules venv and ensurepip; this will not do: $${python:-what is in the PATH}." >&2; \
	  echo "Debian, Ubuntu: apt-get install python3-venv. Any other place: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }; \
	"$$python" -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.all: $(VENV)/.base
	$(PIP) --editable '.[test,check,bench,workloads]'
	@touch $@

serve: $(VENV)/.base  ## run the server on PORT with its data in DIR
	mkdir -p $(DIR)
	$(BIN)/lmdbredis-server --port $(PORT) --dir $(DIR)

check: $(VENV)/.all  ## format, lint, types, layers
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check  ## everything that CI runs
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

quick: $(VENV)/.all  ## the suite without the tests marked slow
	$(BIN)/pytest -m 'not slow'

docs: $(VENV)/.all  ## write the generated parts of the README anew
	$(BIN)/python -m tests.readme

bench: $(VENV)/.all  ## beside valkey-server, results into benchmarks/
	$(BIN)/python -m benchmarks

crash: $(VENV)/.all  ## minutes of kills and power cuts
	$(BIN)/python -m tests.crash_campaign --seconds 300

fuzz: $(VENV)/.all  ## minutes of random commands and bytes against the oracle
	$(BIN)/pytest tests -k 'machine or fuzz' --hypothesis-profile=fuzz

clean:
	rm -rf $(VENV) build *.egg-info
