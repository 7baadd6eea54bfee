# The real library of nixpkgs where GEN_TOPOLOGY_NIXPKGS says where it is, a stand-in
# elsewhere; and the one function that the flake of nixpkgs adds to it.
let
  named = builtins.getEnv "GEN_TOPOLOGY_NIXPKGS";
  lib = if named != "" then import (/. + named + "/lib") else import ./library.nix;

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
// (if builtins ? readFileType && named != "" then { } else { fileset = filesets; })
