# Glance. `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

DEMO_FLAGS := --algo asha --dataset synthetic --trials 16 --max-epochs 8 --reduction-factor 4
PYTEST_FLAGS ?=

MODERN := import sys; sys.exit(sys.version_info < (3, 11))

.DELETE_ON_ERROR:
.PHONY: help setup demo test lint bundle cluster-check cluster-test clean

help: ## list the targets
	@grep -E '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+): .*## /\1|/' | \
		while IFS='|' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## create .venv and install Glance at its pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(MODERN)' 2>/dev/null || { \
		echo "Glance needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
		echo "Install a newer one and name it: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Glance needs Python's venv and ensurepip, and '$(PYTHON)' has none." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import pip; $(MODERN)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "Installing Glance into .venv at the versions of constraints.txt; the first time this takes some minutes."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,export,mlflow,wandb]'
	@touch $(STAMP)
	@echo "Installed."

demo: setup ## search on the built-in faces, then write the report
	@if [ -e results/demo ]; then \
		kept=results/demo-$$(date +%Y%m%d-%H%M%S) && mv results/demo "$$kept" && \
		echo "The results of an earlier demo are kept as $$kept."; fi
	@$(BIN)/python search/run.py $(DEMO_FLAGS) --name demo
	@$(BIN)/python analysis/report.py results/demo
	@echo
	@echo "best config   results/demo/best.json"
	@echo "report        results/demo/report.html"
	@echo "all trials    $(BIN)/tensorboard --logdir results/demo/tensorboard"

test: setup ## run all tests; PYTEST_FLAGS="-m 'not e2e'" for the quick ones
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

lint: setup ## ruff (rules and format) and mypy (strict)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bundle: setup ## the project at the current commit, as cluster/*.yaml ships it to the nodes
	@rm -rf build/cluster && mkdir -p build/cluster
	@git archive --output build/cluster.tar HEAD && tar -xf build/cluster.tar -C build/cluster && rm build/cluster.tar
	@$(BIN)/ray get-auth-token --generate >/dev/null 2>&1
	@echo "build/cluster holds commit $$(git rev-parse --short HEAD)."

cluster-check: setup ## check the files that describe clusters, before they cost money
	@$(BIN)/python cluster/check.py cluster/*.yaml

cluster-test: setup ## bring cluster/on-prem.yaml up by SSH, on namespaces of this machine (root; minutes)
	@$(BIN)/python -m pytest tests/cluster/test_on_prem.py $(PYTEST_FLAGS)

clean: ## remove .venv, caches and build folders; results/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./results -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
