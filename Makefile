# Every target does its own set-up (tools/setup.py); run again, nothing is done twice.
# PYTHON: which Python makes .venv; WORKERS: how many quick tests run side by side

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

.PHONY: help demo demo-job test test-slow check lint types layers format bench dashboards golden lock clean setup setup-test

help:           ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: setup     ## a simulated cluster breaks and is repaired, on a page on loopback
	@$(BIN)/holdfast demo

demo-job: setup ## four processes train, one hangs, is named, the job is restarted and finishes
	@$(BIN)/python tools/demo_job.py

test: setup-test lint types layers      ## all checks and every test that is not slow; what CI runs
	$(PYTEST) -q -m "not slow" -n $(WORKERS) --ignore tests/e2e tests
	$(PYTEST) -q -m "not slow" -n $(WORKERS) --maxschedchunk 1 tests/e2e

test-slow: setup-test   ## soaks, kills and swarms
	$(PYTEST) -q -m slow tests

check: setup-test lint types layers     ## under a minute: format, lint, types, layers, unit tests
	$(PYTEST) -q -m "not slow" -n $(WORKERS) --ignore tests/e2e --ignore tests/packaging tests

lint: setup-test        ## ruff
	$(BIN)/ruff check .

types: setup-test       ## mypy, strict
	$(BIN)/mypy

layers: setup-test      ## which package may import which
	$(BIN)/lint-imports --no-cache

format: setup-test      ## mend what ruff can mend by itself
	$(BIN)/ruff check --fix-only --quiet .

bench: setup-test       ## measure speed and memory
	$(PYTEST) -q bench --benchmark-only

dashboards: setup       ## write the Grafana dashboards and the Prometheus rules anew
	$(BIN)/python -m dashboards.generate

golden: setup-test      ## write the golden journals and the outputs shown in docs anew; review the difference like code
	HOLDFAST_GOLDEN=write $(PYTEST) -q tests/scenarios tests/test_docs.py

lock:           ## write the lock files anew; needs uv on the PATH
	$(PYTHON) tools/lock.py

clean:          ## remove all that can be made again
	rm -rf .venv build dist *.egg-info ftagent/src/*.egg-info ftagent/build .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@$(PYTHON) tools/setup.py run

setup-test:
	@$(PYTHON) tools/setup.py test
