# The real library of nixpkgs, and the one function that the flake of nixpkgs adds to it.
let
  named = builtins.getEnv "GEN_TOPOLOGY_NIXPKGS_LIB";
  lib = import (if named != "" then /. + named else <nixpkgs/lib>);

  # lib.fileset needs Nix 2.14. Here it is enough that each file it is given exists.
  filesets = {
    unions = lib.all (
      part: part == true || builtins.pathExists part || throw "${toString part} does not exist"
    );
    fileFilter = _: builtins.pathExists;
    toSource = { root, fileset }: builtins.seq fileset (toString root);
  };
in
lib
// {
  nixosSystem = import ./nixos.nix { inherit lib; };
}
// (if builtins ? readFileType then { } else { fileset = filesets; })
