# Every target does its own set-up; Python 3.11+ with pip is all a machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test check format bench bench-deid studies docs proto clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ocr]'
	@touch $(STAMP)

demo: install  ## one coordinator, three hospitals and one external, on this machine
	@$(BIN)/pleura demo

test: install  ## unit, property, integration, e2e and chaos tests
	@$(BIN)/python -m pytest

check: install  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: install  ## round times beside plain Flower, one run, ratios printed
	@$(BIN)/python -m tests.benchmarks.rounds

bench-deid: install  ## de-identifiers on planted files, leaks and losses (needs the research images)
	@$(BIN)/python -m tests.benchmarks.deid
	@$(BIN)/python -m tests.benchmarks.deid.speed

studies: install  ## LIDC and chest radiographs through real processes (needs the research images)
	@$(BIN)/python -m tests.benchmarks.studies lidc
	@$(BIN)/python -m tests.benchmarks.studies lidc --privacy
	@$(BIN)/python -m tests.benchmarks.studies cxr

docs: install  ## regenerate docs/reference from the code
	@$(BIN)/python tools/build_reference.py

proto: install  ## regenerate the agent-trainer protocol
	@sh tools/generate_proto.sh $(BIN)/python

format: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo-report demo-state
