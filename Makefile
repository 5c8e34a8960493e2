# Entry points for people; what they do is in scripts/. `make` alone lists them.
.DEFAULT_GOAL := help
TARGET ?=
SECONDS ?= 60
ARGS ?=
.PHONY: help demo test check bench-compare bench-service sim fuzz docs deny deny-advisories clients prepare
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export PATH := $(CARGO_TARGET_DIR)/tools/bin:$(PATH)

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

demo: ## build everything and watch sessions move on this machine (installs what is missing, and says so)
	@scripts/prepare.sh build
	cargo build --release --locked --package wayfarer
	$(CARGO_TARGET_DIR)/release/wayfarer demo

test: ## everything that continuous integration runs; STAGE=name runs one stage
	@scripts/test.sh $(if $(STAGE),--only $(STAGE))

check: ## the quick look before a commit: format and lints
	@scripts/test.sh --only fmt
	@scripts/test.sh --only clippy

sim: ## simulate with fresh seeds, or replay one: make sim SEED=123
	@SEED='$(SEED)' scripts/sim.sh

fuzz: ## fuzz one parser: make fuzz TARGET=layout_split SECONDS=60 (needs a nightly toolchain); make fuzz lists them
	@scripts/fuzz.sh '$(TARGET)' '$(SECONDS)'

bench-compare: ## beside redis-server, nginx, HAProxy and Envoy on this machine: CPU, throughput, latency, memory; ARGS="--quick --json FILE"
	@scripts/prepare.sh bench
	@scripts/clients.sh python
	cargo build --release --locked --package wayfarer
	cargo build --release --locked --workspace --manifest-path benches/compare/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/compare
	$(CARGO_TARGET_DIR)/compare/release/wayfarer-compare --binary $(CARGO_TARGET_DIR)/release/wayfarer \
		--envoy $(CARGO_TARGET_DIR)/clients/venv/bin/envoy --bare $(CARGO_TARGET_DIR)/compare/release/wayfarer-compare-bare $(ARGS)

bench-service: ## one service on plain Redis and with sidecars, 3 instances: what users wait and the machine pays; ARGS="--quick"
	@scripts/prepare.sh bench
	cargo build --release --locked --package wayfarer
	cargo build --release --locked --manifest-path benches/compare/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/compare
	$(CARGO_TARGET_DIR)/compare/release/wayfarer-compare --only service --binary $(CARGO_TARGET_DIR)/release/wayfarer $(ARGS)

docs: ## the documentation of the code, into target/doc
	@scripts/test.sh --only docs

deny: ## licences, bans and sources of the dependencies
	@scripts/prepare.sh deny
	@scripts/test.sh --only deny

deny-advisories: ## known faults of the dependencies; fetches the RustSec advisory database, so it needs a way to it
	@scripts/prepare.sh deny
	@echo "deny-advisories: needs the RustSec advisory database, which is fetched now (not part of make test)"
	cargo deny check advisories

clients: ## install the applications of the client tests into target/clients
	@scripts/prepare.sh test
	@scripts/clients.sh

prepare: ## install what make test needs and this machine lacks
	@scripts/prepare.sh test
