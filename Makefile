# Two commands do all the set-up: `make demo` and `make test`. Both make their own environment in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test reference lint typecheck unit integration services clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PATIENTS ?= 40
DATA ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: .venv/installed  ## run the main job on a synthetic hospital (DATA=folder: on your DICOM files; ONCE=1: stop after it)
	@exec $(BIN)/radir demo --folder .demo --patients $(PATIENTS) $(if $(DATA),--data "$(DATA)") $(if $(ONCE),--once)

test: lint typecheck services .venv/installed-test  ## everything: style, types, layers, all tests with real services, coverage floor
	@$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered tests

unit: .venv/installed-test  ## the quick tests
	@$(BIN)/python -m pytest -q tests/unit tests/contract

integration: .venv/installed-test  ## the tests with real services
	@$(BIN)/python -m pytest -q tests/integration tests/acceptance tests/fault

reference: .venv/installed  ## write docs/reference from the code
	@$(BIN)/python docs/make_reference.py

lint: .venv/installed-test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

typecheck: .venv/installed-test
	@$(BIN)/mypy

services:
	@tests/install-services

.venv/installed: setup.py constraints.txt
	@deploy/check-build-tools "$(PYTHON)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@echo "installing into .venv (the first time takes some minutes)"
	@$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e . | grep -vE '^(Requirement already|  |Looking)' || true
	@$(BIN)/python -c 'import radir_pacs, hnswlib, torch'
	@touch $@

.venv/installed-test: .venv/installed
	@$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[test]' | grep -vE '^(Requirement already|  |Looking)' || true
	@$(BIN)/python -c 'import pytest, hypothesis, mypy'
	@touch $@

clean:  ## remove the environment and the demo's state
	rm -rf .venv .demo build *.egg-info
