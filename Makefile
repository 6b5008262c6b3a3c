# tauserve: every command a developer or a newcomer needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
BIN := .venv/bin
LOCKS := deploy/locks
# uv only where a wheel index must not be asked for torch; see $(LOCKS)/torch.txt.
UV := $(BIN)/uv
UV_INSTALL := $(UV) pip install --quiet --require-hashes
PYTEST := $(BIN)/python -m pytest
MACHINES := $(wildcard deploy/*.asl.json)
ASL_VALIDATOR := deploy/asl-validator/node_modules/.bin/asl-validator
# Servers that the benchmarks measure against, each in an environment of its own.
PEERS := mlserver bentoml litserve

export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help install demo test test-slow soak faults check format bench lock clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.developer .venv-server/.installed .venv-mlflow/.installed .venv-ministack/.installed ## Make .venv and the side environments the tests use.

demo: .venv/.runtime ## Train the example on real data, register, sync and serve it on port 8080.
	$(BIN)/python -m examples.demo

test: install ## Run the fast tests (under 10 minutes; installs nothing once `make install` has run).
	$(PYTEST) -q -n 2 --dist loadfile -m "not slow"

test-slow: install $(ASL_VALIDATOR) .venv-moto/.installed .venv-econml-0.15/.installed .venv-econml-0.16/.installed ## Run the slow tests: kill -9 at every write, MLflow's own commands, Spark, older econml.
	$(PYTEST) -q -n 2 --dist loadfile -m slow

soak: install ## Twenty minutes of mixed load and 500 reloads: nothing may grow.
	$(BIN)/python -m tests.soak

faults: install .venv-moto/.installed ## Break each promise of docs/reliability.md on purpose: do its tests see it? (two hours)
	$(BIN)/python -m tests.planted

check: install $(ASL_VALIDATOR) ## Lint, types, import contracts, Dockerfile, state machines.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/hadolint Dockerfile
	$(BIN)/statelint $(MACHINES)
	$(ASL_VALIDATOR) $(MACHINES:%=--json-path %)

format: .venv/.developer ## Format and fix what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install $(PEERS:%=.venv-peers/%/.installed) ## Measure speed as ratios and hold them against benchmarks/budgets.toml (half an hour).
	$(BIN)/python -m benchmarks.in_process
	$(BIN)/python -m benchmarks.traversal
	$(BIN)/python -m benchmarks.sync
	$(BIN)/python -m benchmarks.http
	$(BIN)/python -m benchmarks.overload

# ---- environments --------------------------------------------------------------------------------------

.venv/bin/uv: $(LOCKS)/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] >= (3, 11) else "tauserve needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCKS)/uv.txt
	@touch $@

.venv/.runtime: .venv/bin/uv $(LOCKS)/runtime.txt $(LOCKS)/torch.txt setup.cfg
	@echo "Installing what training, syncing and serving need into .venv ..."
	$(BIN)/pip install --quiet --disable-pip-version-check -r $(LOCKS)/torch.txt
	$(UV_INSTALL) -r $(LOCKS)/runtime.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.developer: .venv/.runtime $(LOCKS)/developer.txt
	@echo "Installing what the tests need into .venv ..."
	$(UV_INSTALL) -r $(LOCKS)/developer.txt
	@touch $@

# The server's own requirements and nothing else: what its image holds.
.venv-server/.installed: .venv/bin/uv requirements.txt
	test -x .venv-server/bin/python || $(PYTHON) -m venv .venv-server
	$(UV_INSTALL) --python .venv-server/bin/python -r requirements.txt
	@touch $@

# What an artifact's own requirements.txt names: where `mlflow models predict` must work without tauserve.
.venv-mlflow/.installed: .venv/bin/uv $(LOCKS)/artifact.txt
	test -x .venv-mlflow/bin/python || $(PYTHON) -m venv .venv-mlflow
	$(UV_INSTALL) --python .venv-mlflow/bin/python -r $(LOCKS)/artifact.txt
	@touch $@

# A stand-in for AWS; it pins a botocore of its own.
.venv-ministack/.installed: .venv/bin/uv $(LOCKS)/ministack.txt
	test -x .venv-ministack/bin/python || $(PYTHON) -m venv .venv-ministack
	$(UV_INSTALL) --python .venv-ministack/bin/python -r $(LOCKS)/ministack.txt
	@touch $@

# Another stand-in: the one Step Functions interpreter at hand that enforces heartbeats.
.venv-moto/.installed: .venv/bin/uv $(LOCKS)/moto.txt
	test -x .venv-moto/bin/python || $(PYTHON) -m venv .venv-moto
	$(UV_INSTALL) --python .venv-moto/bin/python -r $(LOCKS)/moto.txt
	@touch $@

# The second validator of state machines is a Node program.
$(ASL_VALIDATOR): deploy/asl-validator/package-lock.json
	@command -v npm >/dev/null || { echo "make: expected npm (Node.js 20 or later) to validate deploy/*.asl.json, found none"; exit 1; }
	npm ci --prefix deploy/asl-validator --no-audit --no-fund --loglevel=error
	@touch $@

# The econml a trainer may have instead of .venv's; only the slow tests ask them.
.venv-econml-%/.installed: $(LOCKS)/econml-%.txt .venv/bin/uv
	test -x .venv-econml-$*/bin/python || $(PYTHON) -m venv .venv-econml-$*
	$(UV_INSTALL) --python .venv-econml-$*/bin/python -r $<
	@touch $@

# The hand-written model needs torch under MLServer, too.
.venv-peers/mlserver/.installed: .venv/bin/uv $(LOCKS)/peers-mlserver.txt $(LOCKS)/torch.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $(LOCKS)/torch.txt
	$(UV_INSTALL) --python $(@D)/bin/python -r $(LOCKS)/peers-mlserver.txt
	@touch $@

.venv-peers/%/.installed: .venv/bin/uv $(LOCKS)/peers-%.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(UV_INSTALL) --python $(@D)/bin/python -r $(LOCKS)/peers-$*.txt
	@touch $@

lock: .venv/bin/uv ## Resolve every lock anew.
	deploy/lock

clean: ## Remove environments and caches; keeps ./.tauserve.
	rm -rf deploy/asl-validator/node_modules .venv .venv-server .venv-mlflow .venv-ministack .venv-moto .venv-econml-* .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
