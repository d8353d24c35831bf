# Every target sets up what it needs: a Python (3.11 or newer) and make are enough to start.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
ifeq ($(strip $(PYTHON)),)
PYTHON := python3
endif
BIN := .venv/bin
DATA ?= data
# Databases and Git repositories of tests wait for the disk at every commit: they lie in memory where there is such a folder.
TEMPROOT := $(shell test -w /dev/shm && echo PYTEST_DEBUG_TEMPROOT=/dev/shm)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-policies test-real testbed stack stack-check lint format bench lock wheel clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## Set up .venv from the lock file, when it is missing or stale
	@$(PYTHON) tools/venv.py dev

run: ## Render and check the example bank, then serve the demo portal until Ctrl-C
	@$(PYTHON) tools/venv.py run
	@$(BIN)/pilothouse render examples/bank --out build/bank --quiet
	@exec $(BIN)/pilothouse demo --data $(DATA)

test: ## Run the tests that need nothing but Python
	@$(PYTHON) tools/venv.py dev
	@rm -f .coverage .coverage.*
	@$(TEMPROOT) $(BIN)/python -m pytest -n 2 -m "not real" --cov=pilothouse --cov-branch --cov-report=
	@$(BIN)/python tools/coverage_floor.py

test-policies: ## Hold the policy engine against its reference in 10,000 random worlds
	@$(PYTHON) tools/venv.py dev
	@PILOTHOUSE_POLICY_WORLDS=10000 $(BIN)/python -m pytest -n 2 tests/policies/test_policy_engine_agrees.py -k random_worlds

test-real: testbed ## Get the real programs and run the tests that need them
	@$(TEMPROOT) $(BIN)/python -m pytest -m real

testbed: ## Get the real programs that test-real and stack need
	@$(PYTHON) tools/venv.py real
	@$(BIN)/python tests/real/servers/obtain.py

stack: testbed ## The bank on real servers, with a portal and five things to try, until Ctrl-C
	@exec $(BIN)/python tools/stack

stack-check: testbed ## Start the stack, do the five things, print what was seen
	@exec $(BIN)/python tools/stack --check

lint: ## Style, types, and the floors of the house
	@$(PYTHON) tools/venv.py dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: ## Format the code
	@$(PYTHON) tools/venv.py dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: ## Run the benchmarks
	@$(PYTHON) tools/venv.py dev
	@$(BIN)/python -m bench

wheel: ## Build the wheel into dist/
	@$(PYTHON) tools/venv.py dev
	@$(BIN)/python -m hatchling build -t wheel

lock: ## Write the lock files anew from pyproject.toml (needs uv on the PATH)
	@PYTHON=$(PYTHON) sh tools/lock.sh

clean: ## Remove what the targets made, save .venv and the data folder
	@rm -rf build dist .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .import_linter_cache .hypothesis
