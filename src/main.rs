//! `gen-topology`: see the library's documentation and `docs/architecture.md`.

fn main() -> std::process::ExitCode {
    gen_topology::cli::main()
}
