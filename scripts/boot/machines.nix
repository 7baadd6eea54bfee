# What scripts/boot-hosts evaluates: the machines of the tests as containers, and the tests' scripts.
{
  # A checkout of nixpkgs.
  nixpkgs,
  # This repository.
  repository,
}:
let
  path = /. + nixpkgs;

  # What Nix itself makes of a flake's input.
  input = (import (path + "/flake.nix")).outputs { self = input; } // {
    outPath = path;
  };
  inherit (input) lib;
  flake = (import (/. + repository + "/flake.nix")).outputs {
    self = flake // {
      outPath = /. + repository;
    };
    nixpkgs = input;
  };

  system = "x86_64-linux";
  tests = import (/. + repository + "/tests/nixos") {
    inherit lib;
    inherit (flake.lib) mkStack;
    pkgs = import path {
      inherit system;
      config.allowUnfreePredicate = package: lib.getName package == "mongodb-ce";
    };
  };

  # Programs come from Debian, and look for its dynamic linker.
  provided.environment = {
    stub-ld.enable = false;
    ldso = "/debian/lib64/ld-linux-x86-64.so.2";
  };

  containers = lib.mapAttrs (
    _: test: (test.extendNixOS { module = provided; }).containers
  ) tests.machinesOf;
in
{
  inherit (tests) scripts;
  nodes = lib.mapAttrs (_: test: lib.attrNames test.containers) tests.machinesOf;
  machines = lib.mapAttrs (_: lib.mapAttrs (_: container: container.system.build.nspawn)) containers;
  # What a deploy brings.
  systems = lib.mapAttrs (_: lib.mapAttrs (_: container: container.system.build.toplevel)) containers;
}
