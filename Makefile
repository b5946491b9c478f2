# What a newcomer needs is `make demo` and `make test`; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

# The tests start servers as users of their own, which takes root: everybody else's test programs
# are built as themselves and run through sudo.
ifneq ($(shell id -u),0)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export CARGO_TARGET_$(HOST)_RUNNER := sudo --preserve-env
endif

.PHONY: help setup build demo demo-stop test lint lint-features scripts-test python-test bench bench-swarm deny doc api fmt clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## install by apt what the tests and the demo need and this machine lacks
	@scripts/setup.sh engine

build: ## the restore program, in target/release
	cargo build --release --locked -p restore-cli

# Which platform the demo is about: local, or swarm.
PLATFORM ?= local

demo: ## damage a platform, restore it, and prove that it is back (PLATFORM=swarm: on Docker)
	@examples/demo.sh $(PLATFORM)

demo-stop: ## stop the demo's platform and delete it
	@examples/$(if $(filter swarm,$(PLATFORM)),hosting,local)-platform/platform destroy

test: setup lint scripts-test ## everything that must pass before a change lands
	cargo test --workspace --locked --no-fail-fast
	@$(MAKE) --no-print-directory python-test

lint: ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(MAKE) --no-print-directory lint-features

# Tests enable all features of the library; embedders choose. Each alone, tests left out.
lint-features:
	@for each in "" conformance object-store; do \
	  echo "cargo clippy -p restore-core --no-default-features --features '$$each'"; \
	  cargo clippy --locked -p restore-core --no-default-features --features "$$each" -- -D warnings; \
	done

scripts-test: ## the example platforms' scripts: create, back up, damage, compare, stop
	@examples/local-platform/test.sh
	@examples/hosting-platform/test.sh

python-test: setup ## the Python module: built, installed, typed, tried on the local platform
	@scripts/python-test.sh

bench: setup ## the questions that a number answers, as ratios of alternating runs
	cargo build --release --locked -p restore-cli -p restore-benches
	@for each in verify staging backup fetch downtime pitr; do \
	  printf '\n%s\n\n' "== $$each"; \
	  cargo run --quiet --release --locked -p restore-benches --bin "$$each"; \
	done

bench-swarm: setup ## against the runbook's own commands on the same stack; takes half an hour
	cargo build --release --locked -p restore-cli -p restore-benches
	@cargo run --quiet --release --locked -p restore-benches --bin swarm

deny: ## advisories, licences, sources of the dependencies (installs cargo-deny if need be)
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny check

doc: ## the library's documentation, in target/doc
	cargo doc --no-deps --locked --all-features -p restore-core

api: ## write down in docs/public-api.txt what the library offers now
	RESTORE_UPDATE_API=1 cargo test --locked -p restore-testing --test public_api

fmt: ## format the Rust code
	cargo fmt --all

clean: ## delete what was built
	cargo clean
