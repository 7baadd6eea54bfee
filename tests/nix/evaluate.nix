# What `nix flake check --no-build` would evaluate, with the stand-in for nixpkgs, and
# what else can be said of the flake's outputs. Read by tests/nix.rs as JSON.
let
  root = ../..;
  inherit (import ./flake.nix) flake lib;

  toplevels = lib.mapAttrs (_: machine: machine.config.system.build.toplevel.name);
  perSystem = output: lib.mapAttrs (_: lib.attrNames) flake.${output};
  units =
    machine:
    lib.mapAttrs (_: unit: {
      inherit (unit)
        after
        before
        reloadTriggers
        serviceConfig
        unitConfig
        wantedBy
        wants
        ;
      restartTriggers = map toString unit.restartTriggers;
    }) machine.config.systemd.services;
in
{
  outputs = lib.attrNames flake;
  hosts = lib.mapAttrs (_: machine: {
    etc = lib.mapAttrs (_: file: toString file.source) machine.config.environment.etc;
    firewall = machine.config.networking.firewall;
    nginx = machine.config.services.nginx;
    units = units machine;
  }) flake.nixosConfigurations;
  toplevels = toplevels flake.nixosConfigurations;

  apps = flake.apps;
  checks = perSystem "checks";
  packages = perSystem "packages";
  devShells = lib.mapAttrs (_: shells: shells.default.name) flake.devShells;
  formatter = lib.mapAttrs (_: formatter: formatter.name) flake.formatter;
  images = lib.mapAttrs (
    _: outputs: lib.mapAttrs (_: lib.mapAttrs (_: image: image.name)) outputs.images
  ) flake.legacyPackages;
  virtualbox = lib.mapAttrs (
    _: image: image.virtualbox.params
  ) flake.legacyPackages.x86_64-linux.images;
  modules = lib.mapAttrs (_: builtins.pathExists) flake.nixosModules;
  template = builtins.pathExists (flake.templates.default.path + "/flake.nix");

  vms = flake.apps.x86_64-linux.vms.program;
  vmsScript =
    (flake.lib.mkStack {
      topology = root + "/topology.json";
      hosts = root + "/hosts";
    }).vms.text;

  # Derivations of each check, and every machine of every test.
  derivations = lib.mapAttrs (
    _: lib.mapAttrs (_: check: builtins.deepSeq (check.text or check.entries or null) check.drvPath)
  ) flake.checks;
  tests = lib.mapAttrs (_: test: {
    machines = toplevels test.nodes;
    script = test.testScript;
  }) flake.legacyPackages.x86_64-linux.vmTests;
  testScripts = flake.legacyPackages.x86_64-linux.testScripts.text;
  containerTests = lib.mapAttrs (_: test: {
    inherit (test.requiredFeatures) kvm;
    machines = toplevels test.containers;
    script = test.testScript;
  }) flake.legacyPackages.x86_64-linux.containerTests;
}
