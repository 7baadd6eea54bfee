# The two commands of a newcomer are `make demo` and `make test`.

.PHONY: help demo test check bench fmt lint tools tools-demo rust

help:
	@echo "make demo    install what is missing, build, and show the stack surviving seven failures"
	@echo "make test    install what is missing and run every test"
	@echo "make check   what every save needs: format, lint, unit tests and tests without a lab"
	@echo "make bench   run the benchmarks"
	@echo "make fmt     format the code"
	@echo "make lint    look for what clippy, rustfmt and shellcheck would complain about"
	@echo "make tools   install what is missing, and nothing else"

demo: tools-demo rust
	@test -x target/release/gen-topology || echo "2 of 3: building gen-topology; the first time this takes about three minutes on two cores"
	cargo build --release --locked
	@echo "3 of 3: the demonstration; it takes about two minutes, and the first time it fetches a mongod (50 MB) and Python packages"
	@scripts/demo

test: tools rust
	@scripts/test

bench: rust
	cargo bench --locked

fmt: rust
	cargo fmt

lint: rust
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	@if command -v shellcheck >/dev/null; then grep -rlE '^#!.*sh$$' scripts .ci/run | xargs shellcheck; else echo "not run: shellcheck is not here"; fi

check: rust
	@scripts/check

tools:
	@scripts/install-tools

tools-demo:
	@echo "1 of 3: Debian packages that the lab needs; what is here is left alone"
	@scripts/install-tools demo

rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustc and cargo 1.89 or later, with rustfmt and clippy" >&2; exit 1; }
