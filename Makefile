# Everything there is to do with a clone, each by one command. Every target
# installs what it needs first (tools/setup, which does nothing the second time).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.PHONY: help setup wasm wasm-build wasm-trap fmt lint lint-fmt lint-layers lint-dependencies \
	lint-advisories lint-clippy lint-clippy-wasm test test-core test-core-wasm test-filter test-e2e \
	test-clusters test-api test-plan test-chart test-controller test-fleet test-workshop demo demo-build demo-headless bench bench-cost bench-fleet clean

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
LINKED := wasm32-unknown-unknown/release/spillway_filter.wasm
SIZE_LIMIT_KIB := 200
BENCHES := bench-cost bench-fleet
# How many clusters the controller is measured with.
CLUSTERS := 100
SETUP := tools/setup --quiet

# Where the tests, the demo and the benchmarks find the built filters.
export SPILLWAY_FILTER ?= $(TARGET_DIR)/spillway-filter.wasm
export SPILLWAY_FILTER_TRAP ?= $(TARGET_DIR)/spillway-filter-trap.wasm

help: ## Lists every target
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs everything that building, trying and testing need
	@tools/setup all

# What the tests need; a filter that is too large fails `wasm` and not all of them.
wasm-build:
	@$(SETUP) build
	cargo build -p spillway-filter --release --target wasm32-unknown-unknown
	cargo run --quiet -p spillway-trim -- "$(TARGET_DIR)/$(LINKED)" "$(SPILLWAY_FILTER)"

wasm: wasm-build ## Builds the filter for Envoy, and fails when it grows above 200 KiB
	@size=$$(stat -c %s "$(SPILLWAY_FILTER)")
	echo "$(notdir $(SPILLWAY_FILTER)): $$(( (size + 1023) / 1024 )) KiB of at most $(SIZE_LIMIT_KIB) KiB"
	(( size <= $(SIZE_LIMIT_KIB) * 1024 )) || { echo "the filter is too large: $$size bytes" >&2; exit 1; }

wasm-trap: ## Builds the filter that traps on demand, for the tests of what a trap costs
	@$(SETUP) build
	cargo build -p spillway-filter --release --target wasm32-unknown-unknown --features trap
	cargo run --quiet -p spillway-trim -- "$(TARGET_DIR)/$(LINKED)" "$(SPILLWAY_FILTER_TRAP)"

fmt: ## Formats all Rust code
	@$(SETUP) clippy
	cargo fmt --all

lint: lint-fmt lint-layers lint-dependencies lint-advisories lint-clippy lint-clippy-wasm ## Checks formatting, lints, dependencies and who may depend on whom

lint-fmt: ## Checks that all Rust code is formatted
	@$(SETUP) clippy
	cargo fmt --all --check

lint-clippy: ## Lints every crate, with warnings as errors
	@$(SETUP) clippy
	cargo clippy --workspace --all-targets --all-features -- -D warnings

lint-clippy-wasm: ## Lints what runs inside Envoy, for the target that it runs on
	@$(SETUP) build clippy
	cargo clippy -p spillway-core -p spillway-filter --target wasm32-unknown-unknown -- -D warnings

lint-dependencies: ## Checks the licences, duplicates and sources of the dependencies
	@$(SETUP) cargo-deny
	"$$(tools/setup --path cargo-deny)" check licenses bans sources

lint-advisories: ## Checks the dependencies against the RustSec advisories, where these can be had
	@tools/check-advisories

lint-layers: ## Checks that the filter's crates never reach an async runtime or a Kubernetes client
	@tools/check-layers

test: ## Runs the linters and all tests, and ends with one line of counts
	@tools/test

test-core: ## Tests the decisions
	cargo test --no-fail-fast -p spillway-core

test-core-wasm: ## Tests the decisions as WebAssembly, in Node.js
	@$(SETUP) build wasm-bindgen node
	runner=$$(tools/setup --path wasm-bindgen)
	CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$$runner" \
		cargo test --no-fail-fast -p spillway-core --target wasm32-unknown-unknown --test wasm

test-filter: wasm-build ## Tests the built filter under a host that misbehaves
	cargo test --no-fail-fast -p spillway-tests

test-e2e: wasm-build wasm-trap ## Tests the filter in real Envoys, one test at a time
	@$(SETUP) envoys
	cargo test --no-fail-fast -p spillway-e2e -- --test-threads=1

test-clusters: ## Tests the Kubernetes API servers that other tests stand on, one test at a time
	@$(SETUP) clusters
	cargo test --no-fail-fast -p spillway-clusters -- --test-threads=1

test-api: ## Tests the resources: real API servers take good objects and refuse bad ones
	@$(SETUP) clusters
	cargo test --no-fail-fast -p spillway-api

test-plan: ## Tests the planner; SPILLWAY_UPDATE=1 writes the golden outputs anew
	@$(SETUP) build
	cargo test --no-fail-fast -p spillway-plan

test-chart: ## Tests the Helm charts; SPILLWAY_UPDATE=1 writes the golden outputs anew
	@$(SETUP) clusters helm
	cargo test --no-fail-fast -p spillway-charts -- --test-threads=1

test-controller: ## Tests the controller on real API servers
	@$(SETUP) clusters helm registry
	cargo test --no-fail-fast -p spillway-controller -- --test-threads=2

test-fleet: ## Tests the controller with a hundred clusters
	@$(SETUP) clusters fleet registry
	cargo build -p spillway-controller
	SPILLWAY_FLEET=$$(tools/setup --path fleet) SPILLWAY_CONTROLLER="$(TARGET_DIR)/debug/spillway-controller" \
		cargo test --no-fail-fast -p spillway-fleet

test-workshop: wasm-build ## Tests the workshop, its page in a browser included
	@$(SETUP) demo browser
	cargo test --no-fail-fast -p spillway-workshop -- --test-threads=1

# Envoy and Redis are fetched while cargo builds.
demo-build:
	@$(SETUP) build
	$(SETUP) demo & fetched=$$!
	$(MAKE) --no-print-directory wasm-build
	cargo build -p spillway-workshop
	wait $$fetched

demo: demo-build ## Starts the workshop: a page where you make a service overflow into another cluster
	@cargo run --quiet -p spillway-workshop -- serve

demo-headless: demo-build ## Runs the workshop's story without a browser and prints what happened
	@cargo run --quiet -p spillway-workshop -- headless

bench: ## Runs every benchmark and prints the rows that miss their aim
	@for bench in $(BENCHES); do $(MAKE) --no-print-directory $$bench; done
	tools/bench-report "$(TARGET_DIR)/bench"

bench-cost: wasm-build ## Measures what the filter costs per request
	@$(SETUP) envoy
	cargo run -p spillway-e2e --profile fast --bin bench-cost

bench-fleet: ## Measures how a change comes to CLUSTERS=100 clusters, and what the controller needs
	@$(SETUP) clusters fleet registry
	cargo build -p spillway-controller -p spillway-fleet --profile fast
	SPILLWAY_FLEET=$$(tools/setup --path fleet) SPILLWAY_CONTROLLER="$(TARGET_DIR)/fast/spillway-controller" \
		"$(TARGET_DIR)/fast/bench-fleet" --clusters $(CLUSTERS)

clean: ## Removes what was built here; the cache folder of tools/setup stays
	cargo clean
