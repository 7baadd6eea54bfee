# A NixOS module from a file, evaluated with ours. docs/nixos.md has one.
{ module }:
let
  inherit (import ./flake.nix) flake lib;
  machine = lib.nixosSystem {
    modules = [
      flake.nixosModules.default
      flake.nixosModules.machine
      module
      {
        nixpkgs.pkgs = import ./nixpkgs {
          system = "x86_64-linux";
          config.allowUnfreePredicate = package: lib.getName package == "mongodb-ce";
        };
      }
    ];
  };
in
{
  name = machine.config.system.build.toplevel.name;
  units = lib.attrNames machine.config.systemd.services;
  startAt = lib.mapAttrs (_: unit: unit.startAt) machine.config.systemd.services;
  firewall = machine.config.networking.firewall;
}
