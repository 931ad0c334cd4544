# ostro: `make test` proves it, `make run MODEL=PATH` talks to it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
MODEL  ?=

.PHONY: run test check fmt bench clean

# The environment is made again when what it depends on changes: dependencies, or the C++ that is built into it.
CSRC := $(shell find src/ostro/csrc -type f 2>/dev/null)
$(VENV)/.ready: pyproject.toml CMakeLists.txt constraints/torch.txt $(CSRC)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c constraints/torch.txt torch==$(shell sed -n 's/^torch==//p' constraints/torch.txt)
	$(BIN)/pip install -q -c constraints/torch.txt -e '.[test,torch]'
	touch $@

$(VENV)/.run: pyproject.toml CMakeLists.txt $(CSRC)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -e .
	touch $@

run: $(VENV)/.run
	@test -n "$(MODEL)" || { echo "No model is bundled yet. Give one: make run MODEL=PATH (a folder, a GGUF file, or a name from 'ostro list')."; exit 2; }
	$(BIN)/ostro chat "$(MODEL)"

test: $(VENV)/.ready
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/pytest -q

check: $(VENV)/.ready
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

fmt: $(VENV)/.ready
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete
