# What a newcomer needs is `make demo` and `make test`; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

.PHONY: help setup build package demo demo-stop check test soak lint scripts-test python-test bench bench-swarm deny doc api fmt clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## install by apt what the tests and the demo need and this machine lacks
	@scripts/setup.sh engine

build: ## the restore program, in target/release
	cargo build --release --locked -p restore-cli

package: ## a Debian package and a tarball, in target/package
	@scripts/package.sh

# Which platform the demo is about: local, swarm, or compose.
PLATFORM ?= local
# What happens to it: damage, or disaster.
SCENE ?= damage

demo: ## damage a platform, restore it, and prove that it is back (PLATFORM=swarm or compose: on Docker; SCENE=disaster: from nothing)
	@examples/demo.sh $(PLATFORM) $(SCENE)

demo-stop: ## stop the demo's platform and delete it
	@examples/$(patsubst swarm,hosting,$(PLATFORM))-platform/platform destroy

check: ## while writing: formatting, lints, the tests that need no server; three minutes
	@scripts/test.sh check

test: ## everything that must pass before a change lands; half an hour
	@scripts/test.sh test

# For how many minutes, at most.
MINUTES ?= 60

soak: ## every boundary of every kind of run, random kills, for MINUTES=60
	@MINUTES=$(MINUTES) scripts/test.sh soak

lint: ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

scripts-test: ## the example platforms' scripts: create, back up, damage, compare, stop
	@examples/local-platform/test.sh
	@examples/hosting-platform/test.sh
	@examples/compose-platform/test.sh
	@examples/hosting-platform/guest-test.sh

python-test: setup ## the Python module: built, installed, typed, tried on the local platform
	@scripts/python-test.sh

bench: setup ## the questions that a number answers, as ratios of alternating runs
	cargo build --release --locked -p restore-cli -p restore-benches
	@for each in verify staging backup fetch safety downtime pitr; do \
	  printf '\n%s\n\n' "== $$each"; \
	  cargo run --quiet --release --locked -p restore-benches --bin "$$each"; \
	done

bench-swarm: setup ## against the runbook's own commands on the same stack; takes half an hour
	cargo build --release --locked -p restore-cli -p restore-benches
	@cargo run --quiet --release --locked -p restore-benches --bin swarm

deny: ## advisories, licences, sources of the dependencies
	@PATH=$$(scripts/tools.sh):$$PATH cargo deny check

doc: ## the library's documentation, in target/doc
	cargo doc --no-deps --locked --all-features -p restore-core

api: ## write down in docs/public-api.txt what the library offers now
	RESTORE_UPDATE_API=1 cargo test --locked -p restore-testing --test public_api

fmt: ## format the Rust code
	cargo fmt --all

clean: ## delete what was built
	cargo clean
