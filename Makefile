# Everything there is to do with a clone, each by one command. Every target
# installs what it needs first (tools/setup, which does nothing the second time).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.PHONY: help setup wasm wasm-build wasm-trap fmt lint lint-fmt lint-layers lint-dependencies \
	lint-advisories lint-clippy lint-clippy-wasm build-tests test test-doc test-core test-core-wasm test-sim test-filter test-e2e test-many \
	test-clusters test-api test-plan test-chart test-cli test-controller test-istio test-image test-fleet test-alternatives test-workshop controller cli image images push-images demo demo-build demo-headless simulation bench bench-cost bench-limits bench-fleet bench-hold bench-propagation bench-reaction bench-sim clean

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
LINKED := wasm32-unknown-unknown/release/spillway_filter.wasm
SIZE_LIMIT_KIB := 200
# Pods are network namespaces, which only root makes.
BENCHES := bench-cost bench-limits bench-fleet $(if $(filter 0,$(shell id -u)),bench-propagation) bench-sim bench-reaction bench-hold
# How many clusters the controller is measured with.
CLUSTERS := 100
SETUP := tools/setup --quiet
MUSL := $(shell uname -m)-unknown-linux-musl
# How what is shipped is compiled.
PROFILE := fast
IMAGES := $(TARGET_DIR)/images
IMAGE_TAG ?= latest

# Where the tests, the demo and the benchmarks find the built filters.
export SPILLWAY_FILTER ?= $(TARGET_DIR)/spillway-filter.wasm
export SPILLWAY_CONTROLLER_IMAGE ?= $(TARGET_DIR)/images/controller
export SPILLWAY_FILTER_TRAP ?= $(TARGET_DIR)/spillway-filter-trap.wasm

help: ## Lists every target
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs everything that building, trying and testing need
	@tools/setup all

# Where all test programs were built at once, these were too; by themselves they want other features.
PROGRAMS := $(if $(SPILLWAY_WHOLE),true,cargo build)

# What the tests need; a filter that is too large fails `wasm` and not all of them.
wasm-build:
	@$(SETUP) build
	cargo build -p spillway-filter --release --target wasm32-unknown-unknown
	cargo run --quiet --bin spillway-trim -- "$(TARGET_DIR)/$(LINKED)" "$(SPILLWAY_FILTER)"

wasm: wasm-build ## Builds the filter for Envoy, and fails when it grows above 200 KiB
	@size=$$(stat -c %s "$(SPILLWAY_FILTER)")
	echo "$(notdir $(SPILLWAY_FILTER)): $$(( (size + 1023) / 1024 )) KiB of at most $(SIZE_LIMIT_KIB) KiB"
	(( size <= $(SIZE_LIMIT_KIB) * 1024 )) || { echo "the filter is too large: $$size bytes" >&2; exit 1; }

wasm-trap: ## Builds the filter that traps on demand, for the tests of what a trap costs
	@$(SETUP) build
	cargo build -p spillway-filter --release --target wasm32-unknown-unknown --features trap
	cargo run --quiet --bin spillway-trim -- "$(TARGET_DIR)/$(LINKED)" "$(SPILLWAY_FILTER_TRAP)"

controller: ## Builds the controller as one static program
	@$(SETUP) cc musl
	cargo build -p spillway-controller --profile $(PROFILE) --target $(MUSL)
	cp "$(TARGET_DIR)/$(MUSL)/$(PROFILE:dev=debug)/spillway-controller" "$(TARGET_DIR)/spillway-controller"

cli: wasm-build ## Builds the command `spillway` as one static program, with the filter in it
	@$(SETUP) cc musl
	SPILLWAY_EMBEDDED_FILTER="$(abspath $(SPILLWAY_FILTER))" cargo build -p spillway-cli --profile fast --target $(MUSL)
	cp "$(TARGET_DIR)/$(MUSL)/fast/spillway" "$(TARGET_DIR)/spillway"

# What images and the command say of where they come from: the same for all who build this commit.
# Where the clone has an https remote, that is the address of the sources.
images image cli: export SPILLWAY_REVISION ?= $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)
images image cli: export SPILLWAY_SOURCE_URL ?= $(filter https://%,$(shell git remote get-url origin 2>/dev/null))
images image cli: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

image: images ## The same as images
images: wasm-build controller ## Builds the images of the controller and the filter, as OCI image layouts
	@build() { cargo run --quiet --bin spillway-image -- "$$1" "$$2" "$(IMAGES)/$$1"; }
	echo "controller: $$(build controller "$(TARGET_DIR)/spillway-controller")"
	echo "filter: $$(build filter "$(SPILLWAY_FILTER)")"

push-images: images ## Pushes them to REGISTRY/controller and REGISTRY/filter, with the tag IMAGE_TAG (latest)
	@for image in controller filter; do
		cargo run --quiet --bin spillway-image -- push "$(IMAGES)/$$image" "$(REGISTRY)/$$image:$(IMAGE_TAG)" $(PUSH_FLAGS)
	done

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

build-tests: ## Builds the test programs of every crate
	@$(SETUP) cc
	tools/cargo-test --workspace

test: ## Runs the linters and all tests, and ends with one line of counts
	@tools/test

test-core: ## Tests the decisions
	tools/cargo-test spillway-core

test-core-wasm: ## Tests the decisions as WebAssembly, in Node.js
	@$(SETUP) build wasm-bindgen node
	runner=$$(tools/setup --path wasm-bindgen)
	CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$$runner" \
		cargo test --no-fail-fast -p spillway-core --target wasm32-unknown-unknown --test wasm

test-sim: ## Tests the simulator, and the decisions in it; SPILLWAY_UPDATE=1 writes the snapshots anew
	@$(SETUP) cc
	tools/cargo-test spillway-sim

test-filter: wasm-build ## Tests the built filter under a host that misbehaves
	tools/cargo-test spillway-tests

test-e2e: wasm-build wasm-trap ## Tests the filter in real Envoys, one test at a time
	@$(SETUP) envoys
	tools/cargo-test spillway-e2e --test-threads=1

test-many: wasm-build ## Tests many sidecars with one limit or one switch and all faults, and prints figures; SPILLWAY_MANY_CAPACITY=400 where nothing else runs
	@$(SETUP) envoys
	cargo test -p spillway-e2e --test many --test switch_service -- --include-ignored --nocapture --test-threads=1

test-clusters: ## Tests the Kubernetes API servers that other tests stand on, one test at a time
	@$(SETUP) clusters
	tools/cargo-test spillway-clusters --test-threads=1

test-api: ## Tests the resources: real API servers take good objects and refuse bad ones
	@$(SETUP) clusters
	tools/cargo-test spillway-api

test-plan: ## Tests the planner; SPILLWAY_UPDATE=1 writes the golden outputs anew
	@$(SETUP) build
	tools/cargo-test spillway-plan

test-cli: wasm-build ## Tests the command `spillway`; SPILLWAY_UPDATE=1 writes its snapshots and its reference anew
	@$(SETUP) cc clusters helm registry envoy prometheus skopeo tmux shells
	INSTA_UPDATE=$(if $(SPILLWAY_UPDATE),always,no) tools/cargo-test spillway-cli

# Optimised as it is shipped, the controller takes eight minutes of a processor and does the same.
test-chart: PROFILE := dev
test-chart: images ## Tests the Helm charts and the controller's image; SPILLWAY_UPDATE=1 writes the golden outputs anew
	@$(SETUP) clusters helm registry
	tools/cargo-test spillway-charts --test-threads=1

test-doc: ## Builds the examples in the documentation of the crates, and runs those that can be run
	@$(SETUP) cc
	cargo test --no-fail-fast --workspace --doc

test-image: ## Tests how images are built
	tools/cargo-test spillway-image

test-controller: ## Tests the controller on real API servers
	@$(SETUP) clusters helm registry
	tools/cargo-test spillway-controller --test-threads=2

test-fleet: ## Tests the controller with a hundred clusters
	@$(SETUP) clusters fleet registry
	$(PROGRAMS) --bin spillway-controller
	SPILLWAY_FLEET=$$(tools/setup --path fleet) SPILLWAY_CONTROLLER="$(TARGET_DIR)/debug/spillway-controller" \
		tools/cargo-test spillway-fleet

test-istio: wasm-build ## Tests the whole way through a real Istio, one mesh at a time; needs root
	@$(SETUP) clusters helm istio netns registry envoys
	$(PROGRAMS) --bin spillway-controller --bin spillway
	SPILLWAY_CONTROLLER="$(TARGET_DIR)/debug/spillway-controller" SPILLWAY_COMMAND="$(TARGET_DIR)/debug/spillway" \
		tools/cargo-test spillway-istio --test-threads=1

test-alternatives: ## Tests what is told of Spillway beside the alternatives
	tools/cargo-test spillway-alternatives

test-workshop: wasm-build ## Tests the workshop, its page in a browser included
	@$(SETUP) demo browser
	tools/cargo-test spillway-workshop --test-threads=1

# Envoy and Redis are fetched while cargo builds.
demo-build:
	@$(SETUP) build
	$(SETUP) demo & fetched=$$!
	$(MAKE) --no-print-directory wasm-build
	cargo build --bin spillway-workshop
	wait $$fetched

demo: demo-build ## Starts the workshop: a page where you make a service overflow into another cluster
	@cargo run --quiet --bin spillway-workshop -- serve

demo-headless: demo-build ## Runs the workshop's story without a browser and prints what happened
	@cargo run --quiet --bin spillway-workshop -- headless

simulation: ## Makes the tables and plots of docs/simulation.md anew
	@$(SETUP) cc
	cargo run --quiet --bin spillway-sim -- page docs/simulation.md docs/images

bench: ## Runs every benchmark and prints the rows that miss their aim
	@for bench in $(BENCHES); do $(MAKE) --no-print-directory $$bench; done
	tools/bench-report "$(TARGET_DIR)/bench"

bench-cost: wasm-build ## Measures what the filter costs per request
	@$(SETUP) envoy
	cargo run -p spillway-e2e --profile fast --bin bench-cost

bench-limits: wasm-build ## Measures what one sidecar bears: requests, policies, changes of them
	@$(SETUP) envoy
	cargo run -p spillway-e2e --profile fast --bin bench-cost -- limits

bench-fleet: controller ## Measures how a change comes to CLUSTERS=100 clusters, and what the controller needs
	@$(SETUP) clusters fleet registry
	cargo build -p spillway-fleet --profile fast
	SPILLWAY_FLEET=$$(tools/setup --path fleet) SPILLWAY_CONTROLLER="$(TARGET_DIR)/spillway-controller" \
		"$(TARGET_DIR)/fast/bench-fleet" --clusters $(CLUSTERS)

bench-propagation: wasm-build controller ## Measures how long a changed threshold takes from the hub to the sidecars of two clusters; needs root
	@$(SETUP) clusters helm istio netns registry envoys
	cargo build -p spillway-istio --profile fast --bin bench-propagation
	SPILLWAY_CONTROLLER="$(TARGET_DIR)/spillway-controller" "$(TARGET_DIR)/fast/bench-propagation"

# With options, such as BENCH="--load step --rounds 1", the page stays as it is.
bench-reaction bench-hold: wasm-build
	@$(SETUP) envoy prometheus
	cargo run -p spillway-alternatives --profile fast --bin bench-alternatives -- \
		$(@:bench-%=%) $(or $(BENCH),--page docs/benchmarks.md)

bench-reaction: ## Compares how fast limits are kept with what people use today, and makes docs/benchmarks.md
bench-hold: ## The same for ten minutes near the limit, and while what decides is away

bench-sim: ## Measures how many requests a second are simulated
	@$(SETUP) cc
	cargo bench -p spillway-sim --profile fast --bench bench-sim

clean: ## Removes what was built here; the cache folder of tools/setup stays
	cargo clean
