# Everything a person does with this repository. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo

.PHONY: help run cluster cluster-down build test test-faults lint fmt bench bench-parts bench-check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## build, start the embedded service with the demo catalog, print three curls that show it
	@scripts/install build
	@$(CARGO) build --locked --quiet
	@scripts/demo

cluster: ## three Kafka brokers, Redis, PostgreSQL, two edges, two attributions, a console; prints what to try
	@scripts/install build servers
	@$(CARGO) build --locked --quiet
	@scripts/cluster up

cluster-down: ## stop the cluster; what was answered stays in data/cluster
	@scripts/cluster down

build: ## the binary with fat LTO: target/dist/afflux
	@scripts/install build
	@$(CARGO) build --locked --profile dist

test: ## everything that must hold: rules, lints, the service from outside, faults in their short form, the open internet, one machine and many
	@scripts/install build test open deploy servers
	@scripts/test short

test-faults: ## kill -9, power cuts, failing disks, servers and networks in their long form (root; hours)
	@scripts/install build test open servers
	@scripts/test long

lint: ## formatting and clippy, warnings are errors; licences, sources and known holes of dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked --quiet --workspace --all-targets -- -D warnings
	@scripts/lint-dependencies install

fmt: ## format the code
	@$(CARGO) fmt --all

bench: ## clicks beside nginx, Lua, HAProxy, Go and Node; attribution and recovery; needs an idle machine, half an hour
	@scripts/install build bench
	@$(CARGO) build --locked --quiet --profile dist
	@scripts/bench

bench-parts: ## what each part of a click's way takes: redirect, click ID, event, spool, catalog, decision, ledger
	@scripts/install build
	@$(CARGO) bench --locked --quiet --profile dist --bench parts

bench-check: ## the same in instructions under callgrind, against benches/parts/instructions.txt; any machine, idle or not
	@scripts/install build parts
	@scripts/bench-check

clean: ## remove what was built and the demo's data
	@scripts/cluster down
	@$(CARGO) clean
	@rm -rf data
