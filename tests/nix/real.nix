# Our flake with a real nixpkgs, which scripts/eval-hosts is given: what the stand-in
# of the other tests can only claim. Nothing is built.
{
  # A checkout of nixpkgs.
  nixpkgs,
  # Directory of a project: topology.json and what was rendered from it.
  project ? toString ../..,
}:
let
  path = /. + nixpkgs;
  root = ../..;

  # What Nix itself makes of a flake's input.
  input = (import (path + "/flake.nix")).outputs { self = input; } // {
    outPath = path;
  };
  inherit (input) lib;

  flake = (import (root + "/flake.nix")).outputs {
    self = flake // {
      outPath = root;
    };
    nixpkgs = input;
  };
  stack = flake.lib.mkStack {
    topology = /. + project + "/topology.json";
    hosts = /. + project + "/hosts";
  };

  bare = lib.nixosSystem {
    modules = [
      flake.nixosModules.machine
      {
        nixpkgs = { inherit (stack) pkgs; };
        networking.hostName = "bare";
      }
    ];
  };
  optionsWith = modules: (bare.extendModules { inherit modules; }).options;

  # The table of options against the declarations of nixpkgs.
  table = import ./options.nix { inherit lib; };
  declared = modules: (lib.evalModules { inherit modules; }).options;
  virtualisation = path + "/nixos/modules/virtualisation";
  differences = lib.concatLists [
    (compare [ ] (declared table.nixos) bare.options)
    (compare [ ] (declared table.node) (optionsWith [
      (virtualisation + "/qemu-vm.nix")
      (virtualisation + "/guest-networking-options.nix")
    ]))
    (compare [ ] (declared table.virtualbox) (optionsWith [
      (virtualisation + "/virtualbox-image.nix")
    ]))
  ];

  # Narrower or simpler in the table than there, on purpose.
  simpler = [
    # There a string will do, too.
    "networking.defaultGateway"
    # What it takes to tell a nixpkgs from anything else is nixpkgs' own.
    "nixpkgs.pkgs"
    # We only empty it.
    "services.nginx.virtualHosts"
    # Submodules: the stand-in makes packages itself.
    "system.build"
    "virtualisation.vmVariant"
  ];

  inner = options: removeAttrs options [ "_module" ];
  compare =
    loc: ours: theirs:
    let
      name = lib.concatStringsSep "." loc;
      below =
        theirs:
        lib.concatLists (
          lib.mapAttrsToList (name: option: compare (loc ++ [ name ]) option (theirs.${name} or { })) (
            inner (if lib.isOption ours then ours.type.getSubOptions [ ] else ours)
          )
        );
    in
    if !lib.isOption ours then
      below theirs
    else if !lib.isOption theirs then
      [ "${name}: nixpkgs has no such option" ]
    else
      lib.optional (
        ours.type.description != theirs.type.description && !lib.elem name simpler
      ) "${name}: ${ours.type.description}, and in nixpkgs ${theirs.type.description}"
      # Options of submodules do not say where they come from.
      ++ lib.optional (
        ours.declarations or [ ] != [ ]
        && !lib.any (lib.hasSuffix (lib.head ours.declarations)) (map toString theirs.declarations)
      ) "${name}: ${lib.head ours.declarations}, and in nixpkgs ${toString theirs.declarations}"
      ++ below (theirs.type.getSubOptions [ ]);

  # What `nix flake check --no-build` looks at, and the tests in containers.
  outputs =
    let
      inherit (stack.pkgs.stdenv.hostPlatform) system;
    in
    lib.mapAttrs (_: output: output.drvPath) (
      flake.checks.${system}
      // flake.packages.${system}
      // flake.legacyPackages.${system}.containerTests
      // {
        testScripts = flake.legacyPackages.${system}.testScripts;
        devShell = flake.devShells.${system}.default;
        formatter = flake.formatter.${system};
      }
    );
in
{
  inherit (lib) version;
  inherit differences;

  nodes = lib.attrNames stack.nixosConfigurations;
  bare = bare.config.system.build.toplevel.drvPath;
  machines = lib.mapAttrs (
    _: machine: machine.config.system.build.toplevel.drvPath
  ) stack.nixosConfigurations;
  images = lib.mapAttrs (_: lib.mapAttrs (_: image: image.drvPath)) stack.images;
  vms = stack.vms.drvPath;

  outputNames = lib.attrNames outputs;
  inherit outputs;
}
