# The whole project in a dozen targets. Needs Linux, Python 3.11 and make; everything else is set up by itself.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run up setup test test-slow restore-drill lint debian bench lock clean

export PYTHON
# Else each process that starts compiles all that it imports, where the caller's environment forbids to keep it.
export PYTHONDONTWRITEBYTECODE :=
PY := .venv/bin/python
DRIFT_PY := .venv-drift/bin/python
PYTEST := $(PY) -m pytest -p tests.skips
PARALLEL := --numprocesses 2 --dist loadscope --no-loadscope-reorder
DRIFT_PYTEST := $(DRIFT_PY) -m pytest -p tests.skips

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup  ## real data to a served forecast, then stays up; ONCE=1: stops everything, last line is JSON
	@$(PY) -m pvf run $(if $(ONCE),--once) $(ARGS)

up: setup  ## only the local stack, with the model it served last
	@$(PY) -m pvf up $(ARGS)

setup:  ## the environments .venv and .venv-drift from requirements/*.txt (quick when nothing changed)
	@tools/python -m tools.setup

test: setup-test debian  ## linters, types and all tests but the slow ones; TESTS=path for some of them
	@$(MAKE) $(if $(TESTS),check,-j2 --output-sync=target check test-drift)
	$(PYTEST) $(if $(TESTS),,$(PARALLEL)) -m "not slow" $(TESTS)

test-slow: setup-test debian  ## kill rounds, soak and drills
	$(PYTEST) -m slow $(TESTS)

restore-drill: setup-test  ## backs up a serving stack, destroys it, restores it: it must serve the same bytes
	$(PYTEST) -q -m slow tests/faults/test_restore_drill.py

lint: setup-test check  ## ruff and mypy --strict, nothing else

debian:  ## the Debian packages of some tests: installed as root, named otherwise
	@tools/python -m tools.debian

bench: setup-test  ## NAME=x runs benchmarks/x.py in its environment; the last line is JSON
	@test -f "benchmarks/$(NAME).py" || { echo "make bench NAME=..., one of:" $(filter-out __init__,$(basename $(notdir $(wildcard benchmarks/*.py)))); exit 2; } >&2
	@$(if $(filter drift drift_%,$(NAME)),$(DRIFT_PY),$(PY)) -m benchmarks.$(NAME) $(ARGS)

lock: setup-test  ## requirements/*.in to *.txt; UPGRADE=1 for newer versions
	@tools/lock

clean:  ## removes the environments, tools, caches and all local data (.pvf)
	@tools/clean

.PHONY: setup-test check test-drift
setup-test:
	@tools/python -m tools.setup --test

check:
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy -p tools

test-drift:
	$(DRIFT_PYTEST) inference/drift/tests
