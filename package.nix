# The gen-topology program. `pkgs.callPackage ./package.nix { }` is all it takes.
{
  lib,
  installShellFiles,
  rustPlatform,
}:
let
  manifest = lib.importTOML ./Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  # What cargo reads, so that a change of hosts/ or of a module builds nothing anew.
  # The program has the application, the examples and the schema within it.
  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions [
      ./Cargo.lock
      ./Cargo.toml
      ./app
      ./benches
      ./examples
      ./src
      (lib.fileset.fileFilter (file: file.hasExt "rs") ./tests)
      ./topology.json
      ./topology.schema.json
    ];
  };

  # No hash of our own to keep up to date, and nothing is built while evaluating.
  cargoLock.lockFile = ./Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  # The tests beside the code. Those below tests/ want daemons and a kernel; they are
  # `make test`'s.
  cargoTestFlags = [ "--lib" ];

  postInstall = ''
    for shell in bash fish zsh; do
      installShellCompletion --cmd gen-topology --"$shell" <("$out"/bin/gen-topology completions "$shell")
    done
  '';

  meta = {
    inherit (manifest.package) description;
    homepage = manifest.package.repository;
    license = lib.licenses.mit;
    mainProgram = "gen-topology";
    platforms = lib.platforms.linux;
  };
}
