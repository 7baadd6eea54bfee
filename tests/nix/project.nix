# A project made from our template, as its own flake.nix sees it.
{ work }:
let
  inherit (import ./flake.nix) flake nixpkgs lib;
  project = (import (work + "/flake.nix")).outputs {
    gen-topology = flake;
    inherit nixpkgs;
  };
  # Assertions are checked when a machine is evaluated.
  toplevels = lib.mapAttrs (
    _: machine: machine.config.system.build.toplevel.name
  ) project.nixosConfigurations;
in
{
  inherit toplevels;
  apps = lib.attrNames project.apps.x86_64-linux;
  checks = lib.mapAttrs (_: check: check.name) project.checks.x86_64-linux;
  images = lib.mapAttrs (_: lib.attrNames) project.legacyPackages.x86_64-linux.images;
  hosts = lib.mapAttrs (_: machine: {
    etc = lib.mapAttrs (_: file: toString file.source) machine.config.environment.etc;
    units = lib.mapAttrs (_: unit: {
      inherit (unit) before serviceConfig unitConfig;
    }) machine.config.systemd.services;
  }) project.nixosConfigurations;
  shell = project.devShells.x86_64-linux.default.name;
}
