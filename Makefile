# Kiln's commands. `make` alone lists them. Everything is installed under this folder: .venv (the farm), .bpy (Blender).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

BIN := .venv/bin
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
SOURCES := app ami supervisor nodeimage bench tests samples
IMAGE := kiln
# Two files of tests at a time: more of them would share the cores with real Blenders.
TOGETHER := --quiet --numprocesses 2 --dist loadfile

# With a Blender of your own (KILN_BLENDER__COMMAND) the bpy wheel is not needed.
BLENDER_STAMP := $(if $(KILN_BLENDER__COMMAND),,.bpy/.installed)

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ------------------------------------------------------------------ to use it

.PHONY: setup
setup: ## Install everything the farm needs, under this folder
	@$(MAKE) --silent -j3 .venv/.installed $(BLENDER_STAMP) system-blender

.PHONY: demo
demo: setup ## Render the sample animation through a farm on this machine
	@$(BIN)/python -m app.demo

.PHONY: serve
serve: setup ## Run the farm on http://127.0.0.1:8000
	@exec $(BIN)/kiln serve --config config.toml

# ------------------------------------------------------------- to work on it

.PHONY: setup-dev
setup-dev:
	@$(MAKE) --silent -j3 .venv/.installed-dev $(BLENDER_STAMP) system-blender-browser

.PHONY: test
test: setup-dev ## Run all tests
	@$(BIN)/python -m pytest $(TOGETHER)

.PHONY: check
check: setup-dev ## Format, lint, types, imports, tests
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(TOGETHER)

.PHONY: crash-matrix
crash-matrix: setup-dev ## Let the farm die at every call of jobs' lives on AWS
	@$(BIN)/python -m tests.aws.crash_matrix

.PHONY: fault-storm
fault-storm: setup-dev ## Render hundreds of jobs on an AWS where everything fails now and then
	@$(BIN)/python -m tests.aws.fault_storm

.PHONY: fix
fix: setup-dev ## Format, and repair what the linter can
	$(BIN)/ruff format $(wildcard $(SOURCES))
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))

.PHONY: bench
bench: setup-dev .bench/.installed ## Measure the farm beside what you would use instead
	@$(BIN)/python -m bench

.PHONY: sample
sample: $(BLENDER_STAMP) system-blender ## Make samples/kiln.blend again from its script
	.bpy/bin/python samples/make_sample.py

.PHONY: lock
lock: ## Pin the dependencies in pyproject.toml anew, with hashes
	@test -x .lock/bin/uv || { "$$(scripts/python-3.11)" -m venv .lock && .lock/bin/pip install $(PIP_FLAGS) uv; }
	.lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" pyproject.toml --group build -o requirements.txt
	.lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" pyproject.toml --group build --group dev -c requirements.txt -o requirements-dev.txt
	.lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --group bpy -o requirements-bpy.txt
	.lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --group bench -o requirements-bench.txt
	.lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --group node -c requirements.txt -o ami/requirements.txt
	.lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --no-deps --group bpy-older -o ami/check/requirements.txt

.PHONY: image
image: ## Build the container
	@docker info >/dev/null 2>&1 || { echo "make image needs a running Docker engine, and 'docker info' finds none." >&2; exit 1; }
	docker build --tag $(IMAGE) .

.PHONY: container-check
container-check: ## Build the container, run it, and render a frame in it
	@scripts/container-check

.PHONY: image-check
image-check: setup-dev ## Prove the AMI's provisioners in a Debian made for it (as root; 10 minutes, then 6)
	@scripts/system-packages image-check
	@$(BIN)/python -m ami.check

.PHONY: clean
clean: ## Remove what was installed or made here, but no farm's data
	rm -rf .venv .bpy .bench .lock .image-check .kiln/demo-* demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -------------------------------------------------------------- installation
# A stamp is newer than the lock file that it was installed from, so a second run does nothing.

.venv/bin/python .bpy/bin/python .bench/bin/python:
	@python="$$(scripts/python-3.11)"; rm -rf $(@D)/..; "$$python" -m venv $(@D)/..

.venv/.installed: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing the farm's Python packages into .venv"
	@$(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	@echo "Installing the test tools into .venv"
	@$(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements-dev.txt
	@touch $@

.bpy/.installed: requirements-bpy.txt | .bpy/bin/python
	@echo "Installing Blender (the bpy wheel, about 370 MB) into .bpy"
	@.bpy/bin/python -m pip install $(PIP_FLAGS) --no-cache-dir --require-hashes -r requirements-bpy.txt
	@touch $@

.bench/.installed: requirements-bench.txt | .bench/bin/python
	@echo "Installing awscli, to measure uploads beside it, into .bench"
	@.bench/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements-bench.txt
	@touch $@

.PHONY: system-blender system-blender-browser
system-blender:
	@scripts/system-packages blender
system-blender-browser:
	@scripts/system-packages blender browser
