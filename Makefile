# Every target sets up what it needs. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= dicomserver
FUZZ_SECONDS ?= 600
# Tests wait more than they compute; the files that wait longest come first by name.
PYTEST_ARGS ?= -q -n $(shell expr $$(nproc) + 1) --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Cargo and maturin must agree on the interpreter, or PyO3 is compiled anew each time.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
SOURCES := pyproject.toml constraints.txt Cargo.toml Cargo.lock $(wildcard native/*/Cargo.toml) \
	$(wildcard native/pixels/*.pyx) $(wildcard native/backend/*.py) \
	$(shell find native -name '*.rs' -o -name '*.c' -o -name '*.sql' | grep -v -e '/target/' -e '/pixels/')

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: serve
serve: install  ## Set up and start the server in ./dicomserver (HOME_DIR=... for another folder)
	@exec $(BIN)/pyserver serve --home $(HOME_DIR) $(SERVE_ARGS)

.PHONY: install
install: $(VENV)/.installed  ## Make .venv and build pyserver into it

$(VENV)/bin/python:
	@scripts/check_tools.sh
	"$$(scripts/check_tools.sh --python)" -m venv $(VENV)

# Build requirements stand in the environment itself: pinned like everything else, and PyO3 is
# not compiled anew for each install.
$(VENV)/.installed: $(SOURCES) | $(VENV)/bin/python
	@scripts/check_tools.sh
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt maturin setuptools Cython cmake
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@

.PHONY: peers
peers: install  ## Install the DICOM programs of others that the tests talk to
	@PYTHON=$(BIN)/python scripts/install_peers.sh

.PHONY: test
test: peers  ## Run all tests: Rust, then Python, with the peers
	cargo test --quiet
	$(BIN)/pytest $(PYTEST_ARGS)

.PHONY: unit
unit: install  ## Run the tests that need no other program
	cargo test --quiet
	$(BIN)/pytest $(PYTEST_ARGS) tests/unit

.PHONY: lint
lint: install  ## Check form and types of Python and Rust, and the stub of the native module
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cargo fmt --all --check
	rustfmt --check --edition 2024 fuzz/src/main.rs
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/python -m mypy.stubtest pyserver._native

.PHONY: format
format: install  ## Put Python and Rust into the form that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cargo fmt --all

.PHONY: docs
docs: install  ## Write the generated pages of docs/ anew
	$(BIN)/python scripts/write_docs.py

.PHONY: bench
bench: peers  ## Measure this server beside others; see python -m bench --help (BENCH_ARGS=...)
	$(BIN)/python -m bench $(BENCH_ARGS)

.PHONY: fuzz
fuzz: install  ## Fuzz every parser, one after the other (FUZZ_SECONDS=600 for each)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt atheris
	FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz/run.sh
	FUZZ_SECONDS=$(FUZZ_SECONDS) PYTHON=$(BIN)/python fuzz/python/run.sh

.PHONY: properties
properties: install  ## Run the property tests with many cases (CASES=20000)
	PROPTEST_CASES=$${CASES:-20000} cargo test --quiet --release
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -q --timeout 3600 tests/unit

.PHONY: clean
clean:  ## Remove what was built, but no data
	rm -rf $(VENV) target fuzz/target build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pyserver -name '*.so' -delete
