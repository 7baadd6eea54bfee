# The two commands of a newcomer are `make demo` and `make test`.

.PHONY: help demo test bench fmt lint tools rust

help:
	@echo "make demo    install what is missing, build, and show the stack surviving seven failures"
	@echo "make test    install what is missing and run every test"
	@echo "make bench   run the benchmarks"
	@echo "make fmt     format the code"
	@echo "make lint    look for what clippy, rustfmt and shellcheck would complain about"
	@echo "make tools   install what is missing, and nothing else"

demo: tools rust
	cargo build --release --locked
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
	@if command -v shellcheck >/dev/null; then shellcheck scripts/* .ci/run; else echo "not run: shellcheck is not here"; fi

tools:
	@scripts/install-tools

rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustc and cargo 1.89 or later, with rustfmt and clippy" >&2; exit 1; }
