# The outputs of our flake.nix, with the stand-in for nixpkgs as its input.
let
  root = ../..;
  lib = import ./nixpkgs/lib.nix;
in
rec {
  inherit lib;

  nixpkgs = {
    outPath = toString ./nixpkgs;
    inherit lib;
    # Nothing that is not free, as there.
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
      system:
      import ./nixpkgs {
        inherit system;
        config.allowUnfreePredicate = _: false;
      }
    );
  };

  flake = (import (root + "/flake.nix")).outputs {
    self = flake // {
      outPath = toString root;
    };
    inherit nixpkgs;
  };
}
