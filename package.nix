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

  # What cargo reads, and nothing of the stack that this repository runs: a machine restarts its
  # daemons when the program is another one, and an edit of topology.json or app/ has to be no more
  # than a reload. What `init` writes is in starter/.
  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions [
      ./Cargo.lock
      ./Cargo.toml
      ./benches
      ./src
      ./starter
      (lib.fileset.fileFilter (file: file.hasExt "rs") ./tests)
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
    "$out"/bin/gen-topology man man
    installManPage man/*.1
  '';

  meta = {
    inherit (manifest.package) description;
    homepage = manifest.package.repository;
    license = lib.licenses.mit;
    mainProgram = "gen-topology";
    platforms = lib.platforms.linux;
  };
}
