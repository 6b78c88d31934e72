# Two commands do all the set-up: `make demo` and `make test`. Both make their own environment in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test tested coverage audit docs reference lint lint-viewer typecheck typecheck-product typecheck-tests unit integration machines test-viewer services clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WHOLE := -n 4 --dist loadfile --no-loadscope-reorder \
	tests/acceptance tests/viewer tests/fault tests/integration tests/unit tests/contract tests/training
TYPED := radir_pacs .venv/roots/radir_workers .venv/roots/radir_training orthanc_plugin
PATIENTS ?= 40
DATA ?=
FEWER_LINES := { grep -vE '^(Requirement already|  |Looking)' || true; }  # grep's own status says nothing; pip's counts
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE  # images of Python set it; here each of some hundred processes would compile everything anew

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: .venv/installed  ## run the main job on a synthetic hospital (DATA=folder: on your DICOM files; ONCE=1: stop after it)
	@exec $(BIN)/radir demo --folder .demo --patients $(PATIENTS) $(if $(DATA),--data "$(DATA)") $(if $(ONCE),--once)

test:  ## everything: style, types, layers, all tests with real services, coverage floor
	@$(MAKE) --no-print-directory -j2 services .venv/installed-test
	@$(MAKE) --no-print-directory -j2 lint lint-viewer
	@$(MAKE) --no-print-directory -j2 tested typecheck

tested: .venv/installed-test  # `make test` checks types meanwhile: the tests leave room for it where they wait
	@rm -f .coverage*
	@$(BIN)/python -m pytest $(WHOLE) -p tests.covered_lines
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

coverage: services .venv/installed-test  ## which lines and branches the tests run: all of them, traced, which takes a third longer
	@$(BIN)/python -m pytest $(WHOLE) --cov --cov-fail-under=80 --cov-report=term --cov-report=html:build/coverage

audit:  ## known vulnerabilities of the pinned versions; asks an advisory service, so it is no part of `make test`
	@test -x build/audit/bin/pip-audit || { "$(PYTHON)" -m venv build/audit && build/audit/bin/python -m pip install -q pip-audit; }
	@{ build/audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip --progress-spinner off -f json 2>/dev/null || true; } \
		| "$(PYTHON)" .ci/audit.py

unit: .venv/installed-test  ## the quick tests
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --hypothesis-profile quick tests/unit tests/contract

integration: .venv/installed-test  ## the tests with real services
	@$(BIN)/python -m pytest -q tests/integration tests/acceptance tests/fault

test-viewer: services lint-viewer .venv/installed-test  ## the sidebar in Chromium: alone, in OHIF and in Orthanc (screenshots in build/viewer)
	@$(BIN)/python -m pytest -q tests/viewer tests/acceptance/orthanc

machines: services .venv/installed-test  ## one installation on three machines (needs root, half an hour): each machine and link fails under load, then the acceptance tests
	@$(BIN)/python -m benchmarks.speed.three_machines --out build/machines
	@RADIR_TEST_MACHINES=3 $(BIN)/python -m pytest -v -rs tests/acceptance

reference: .venv/installed  ## write docs/reference from the code
	@$(BIN)/python docs/make_reference.py

docs: .venv/installed-docs  ## build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo "build/site/index.html"

lint: .venv/installed-test
	@.ci/no-secrets && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

lint-viewer: services  ## types and style of the viewer's modules, where npm is installed (CI=true: it must be)
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory viewer/node_modules/installed && cd viewer && npm run --silent types && npm run --silent lint; \
	else echo "npm is not installed: the viewer's modules are not checked" >&2; test "$${CI:-}" != true; fi

viewer/node_modules/installed: viewer/package.json viewer/package-lock.json
	@cd viewer && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

typecheck: .venv/roots/made  ## types: strict in the product, checked bodies in tests and benchmarks
	@$(BIN)/mypy --warn-unused-configs $(TYPED) tests benchmarks

typecheck-product: .venv/roots/made
	@$(BIN)/mypy $(TYPED)

typecheck-tests: .venv/roots/made
	@$(BIN)/mypy tests benchmarks

.venv/roots/made: .venv/installed-test
	@mkdir -p .venv/roots && for folder in training workers viewer; do ln -sfn "../../$$folder" ".venv/roots/radir_$$folder"; done
	@touch $@

services:
	@tests/install-services
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory tests/provider/node_modules/installed; \
	else echo "npm is not installed: nobody signs in at a provider" >&2; test "$${CI:-}" != true; fi

tests/provider/node_modules/installed: tests/provider/package.json tests/provider/package-lock.json  # a certified OpenID provider
	@cd tests/provider && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

define install
@deploy/check-python "$(PYTHON)"
@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
@echo "installing into .venv (the first time takes some minutes)"
@$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.$(1)' | $(FEWER_LINES)
@$(BIN)/python -c 'import radir_pacs, faiss, torch'
endef

.venv/installed: setup.py constraints.txt
	$(call install)
	@touch $@

.venv/installed-test: setup.py constraints.txt  # all at once: pip takes as long to look at what is there already
	$(call install,[test])
	@$(BIN)/python -c 'import pytest, hypothesis, mypy'
	@touch .venv/installed $@

.venv/installed-docs: .venv/installed
	@$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[docs]' | $(FEWER_LINES)
	@touch $@

clean:  ## remove the environment and the demo's state
	rm -rf .venv .demo build *.egg-info
