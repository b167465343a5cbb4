# Everything that one does with this project. `make demo` and `make test` need nothing done before.

CARGO ?= cargo
# Deterministic and quiet builds wherever they run.
export CARGO_TERM_COLOR ?= auto

.PHONY: help setup build demo guests test lint clean bench-startup bench-http

help:
	@echo 'make demo           builds everything, starts a node, calls real functions, stops'
	@echo 'make test           all tests'
	@echo 'make build          target/release/awsm and target/release/awsmc'
	@echo 'make guests         the example functions, target/guests/*.wasm'
	@echo 'make lint           formatting and clippy'
	@echo 'make bench-startup  startup, cycle and cold start beside wasmtime'
	@echo 'make bench-http     requests per second beside a bare hyper server'

setup:
	@tools/setup

build: setup
	$(CARGO) build --release

guests: setup
	@$(MAKE) --no-print-directory -C guests

demo: build guests
	@tools/demo

# cargo-nextest where it is installed, else cargo's own runner.
test: setup guests
	$(CARGO) build
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --no-fail-fast; \
	else \
		$(CARGO) test --no-fail-fast; \
	fi

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

bench-startup bench-http: bench-%: build guests
	$(CARGO) build --release -p awsm-bench
	target/release/awsm bench $* --out target/bench/$*.json

clean:
	$(CARGO) clean
