# Everything that one does with this project. `make demo` and `make test` need nothing done before.

CARGO ?= cargo
# Deterministic and quiet builds wherever they run.
export CARGO_TERM_COLOR ?= auto
# All packages but the benchmarks, which link the peers.
TESTED := --workspace --exclude awsm-bench

.PHONY: help setup build demo guests examples test test-bench check sanitize miri fuzz lint doc audit yosys clean bench-startup bench-reset bench-http bench-wasi
.PHONY: bench-code bench-compile bench-verify bench-overload bench-budgets bench-preempt bench-neighbours bench-balance bench-hostile

help:
	@echo 'make demo           builds everything, starts a node, calls real functions, stops'
	@echo 'make test           all tests'
	@echo 'make sanitize       the sandbox crate under AddressSanitizer, its pure parts under Miri (nightly Rust)'
	@echo 'make fuzz           random modules beside an interpreter, until stopped'
	@echo 'make build          target/release/awsm and target/release/awsmc'
	@echo 'make guests         the example functions, target/guests/*.wasm'
	@echo 'make examples       the example of each language, target/examples/*.wasm'
	@echo 'make lint           formatting and clippy'
	@echo 'make doc            the documentation of all crates, without warnings'
	@echo 'make audit          licences and sources of what Cargo.lock brings in; advisories with cargo-deny'
	@echo 'make test-bench     the tests of the benchmarks themselves (builds the peers)'
	@echo 'make check          all of these and make test: what continuous integration runs'
	@echo 'make bench-startup  startup, cycle and cold start beside wasmtime'
	@echo 'make bench-reset    making a sandbox ready again, by image and pages written, beside wasmtime'
	@echo 'make bench-code     speed of compiled code beside native code and wasmtime'
	@echo 'make bench-compile  time and memory of compilation beside wasmtime'
	@echo 'make bench-verify   time and memory of reading compiled code back, and how much of it is shown'
	@echo 'make bench-http     requests per second beside a bare hyper server'
	@echo 'make yosys          synthesises a design with yosys, and compares with wasmtime'
	@echo 'make bench-wasi     host calls beside wasmtime, guests asleep by the thousand'
	@echo 'make bench-overload more work than the core can do, under each kind of admission'
	@echo 'make bench-budgets  what a greedy tenant takes from its neighbour'
	@echo 'make bench-hostile  what a neighbour feels of a tenant that harms it in every way that it can'
	@echo 'make bench-preempt  what a tick costs, and what none does'
	@echo 'make bench-neighbours  a short function beside long ones, under each policy and beside wasmtime'
	@echo 'make bench-balance  two workers, and all connections on one of them'

setup:
	@tools/setup

build: setup
	$(CARGO) build --release

guests: setup
	@$(MAKE) --no-print-directory -C guests

examples: setup guests
	@$(MAKE) --no-print-directory -C examples

demo: build guests
	@tools/demo

# cargo-nextest where it is installed, else cargo's own runner.
test: setup guests examples
	$(CARGO) build $(TESTED)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run $(TESTED) --no-fail-fast; \
	else \
		$(CARGO) test $(TESTED) --no-fail-fast; \
	fi

# The crate with the unsafe code, checked as it runs. Needs a nightly toolchain; for Miri its
# components `miri` and `rust-src`. Faults of guests are ours to handle, and guests run on stacks of
# their own.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
ASAN := detect_stack_use_after_return=0:use_sigaltstack=0:allow_user_segv_handler=1
ASAN := $(ASAN):handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_sigtrap=0
# What needs neither mapped memory nor compiled code.
PURE := budget:: call:: constant:: exceptions:: guest_memory:: image:: registry:: table:: words:: last_words::tests::a_line
sanitize: setup
	@rustc +nightly --version >/dev/null || { echo 'needs `rustup toolchain install nightly`'; exit 1; }
	ASAN_OPTIONS=$(ASAN) RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --target $(HOST) \
		--target-dir target/sanitize -p awsm-sandbox --features sanitize --lib --tests -- --test-threads=1
	@if $(CARGO) +nightly miri --version >/dev/null 2>&1; then $(MAKE) --no-print-directory miri; \
	else echo 'Miri did not run: `rustup +nightly component add miri rust-src`'; fi

# Under both models of what references may do.
miri:
	MIRIFLAGS=-Zmiri-permissive-provenance $(CARGO) +nightly miri test --target-dir target/sanitize \
		-p awsm-sandbox --lib -- $(PURE) --skip long_runs_are_mapped
	MIRIFLAGS='-Zmiri-permissive-provenance -Zmiri-tree-borrows' $(CARGO) +nightly miri test \
		--target-dir target/sanitize -p awsm-sandbox --lib -- $(PURE) --skip long_runs_are_mapped

# Random modules until one diverges or you stop it: `make fuzz SEEDS=100000..200000`.
SEEDS ?= 0..
fuzz: setup
	$(CARGO) run --profile quick -p awsm-fuzz -- --seeds $(SEEDS)

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(TESTED) --all-targets -- -D warnings

doc: setup
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' $(CARGO) doc $(TESTED) --no-deps --document-private-items

audit: setup
	@tools/audit

# The benchmark package, which `make test` leaves out since it links the peers.
test-bench: setup
	$(CARGO) test -p awsm-bench

check: lint doc audit test-bench test

# A big program under aWsm and wasmtime: the same output.
yosys: build
	@tools/yosys

bench-startup bench-reset bench-http bench-wasi bench-overload bench-budgets bench-preempt bench-neighbours bench-balance bench-hostile: bench-%: build guests
	$(CARGO) build --release -p awsm-bench
	target/release/awsm bench $* --out target/bench/$*.json

# CPU=x86-64-v3 or the like: what both sides compile for; CODE_FLAGS=--quick, or --only NAME.
CPU ?= x86-64
bench-code: build
	$(CARGO) build --release -p awsm-bench
	@$(MAKE) --no-print-directory -C guests code CPU=$(CPU) $(if $(findstring --quick,$(CODE_FLAGS)),QUICK=1)
	target/release/awsm-bench code --cpu $(CPU) $(CODE_FLAGS)

# VERIFY_FLAGS=--quick leaves the large modules out; --only NAME.
bench-verify: build guests
	@$(if $(findstring --quick,$(VERIFY_FLAGS)),:,tools/modules)
	$(CARGO) build --release -p awsm-bench
	target/release/awsm-bench verify $(VERIFY_FLAGS)

# The large modules are fetched once; COMPILE_FLAGS=--only NAME.
bench-compile: build guests
	@tools/modules
	$(CARGO) build --release -p awsm-bench
	target/release/awsm-bench compile $(COMPILE_FLAGS)

clean:
	$(CARGO) clean
