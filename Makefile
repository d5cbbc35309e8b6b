# The menu of everything one does here; each recipe is short, the work is in scripts/ and tests/.
VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-aws test-openstack test-zfs check fmt bench packages plugin

help: ## show this menu
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: packages $(READY) ## install what is missing: system packages (as root) and .venv

demo: setup ## the main job on a private Docker Engine (ENGINE=host: on the machine's)
	@$(PYTHON_IN_VENV) -m tests.lab.demo

test: setup ## run the tests, real Docker Engines included (ARGS="-k loop -x": for pytest)
	@$(PYTHON_IN_VENV) -m pytest $(ARGS)

test-all: setup ## run every combination as well (before a release)
	@VOLPLUG_TEST_SLOW=1 $(PYTHON_IN_VENV) -m pytest $(ARGS)

test-aws: setup ## the EBS driver on AWS itself: on an EC2 instance, as root; makes and deletes volumes
	@VOLPLUG_TEST_AWS=1 $(PYTHON_IN_VENV) -m pytest tests/aws $(ARGS)

test-openstack: setup ## the Cinder driver on a real cloud: on a server, as root; makes and deletes volumes
	@VOLPLUG_TEST_OPENSTACK=1 $(PYTHON_IN_VENV) -m pytest tests/openstack $(ARGS)

test-zfs: setup ## ZFS on a machine with OpenZFS, as root; makes pools on files and destroys them
	@VOLPLUG_TEST_ZFS=1 $(PYTHON_IN_VENV) -m pytest -n0 tests/drivers/zfs tests/walks/test_zfs_walk.py $(ARGS)

bench: setup ## measure it beside rclone, Docker's local driver and the kernel (ARGS: --quick, --docs, --part cinder)
	@scripts/system-packages bench
	@$(PYTHON_IN_VENV) -m benchmarks $(ARGS)

check: $(READY) ## formatting, lint, types, and which part may import which
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

fmt: $(READY) ## format the code and fix what can be fixed
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

plugin: ## build the managed plugin and create it in Docker (PLUGIN=NAME:TAG, PLATFORM=linux/arm64)
	@scripts/make-plugin $(PLUGIN)

packages:
	@scripts/system-packages

$(READY): pyproject.toml constraints.txt
	@scripts/system-packages python
	@scripts/make-venv $(VENV)
	@touch $@
