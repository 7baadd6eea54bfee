# mkStack: NixOS machines, images, virtual machines and checks from a topology file
# and the directory that `gen-topology generate` rendered from it.
#
#   mkStack { topology = ./topology.json; hosts = ./hosts; }
#
# Nothing is generated while evaluating (that would need a build first): the files
# in `hosts` are committed. What does not fit together stops the evaluation with one sentence
# that names the file and the command to run.
{
  lib,
  pkgsFor,
  gen-topology,
}:
{
  # The topology file.
  topology,
  # What was rendered from it.
  hosts,
  # Of the machines.
  system ? "x86_64-linux",
  # NixOS modules that every node gets: users, keys, monitoring.
  modules ? [ ],
  # NixOS modules that one node gets: { node-1 = [ … ]; }.
  nodeModules ? { },
}:
let
  pkgs =
    pkgsFor.${system}
      or (throw "mkStack: unknown system ${system}; use one of ${lib.concatStringsSep ", " (lib.attrNames pkgsFor)}, as in mkStack { system = \"x86_64-linux\"; … }.");

  file = baseNameOf topology;
  directory = baseNameOf hosts;
  regenerate = "run `gen-topology generate` and `git add ${directory}`";

  wanted =
    lib.throwIfNot (builtins.pathExists topology)
      "${file} is missing; run `gen-topology init`, then `gen-topology generate`, then `git add .`."
      (lib.importJSON topology);
  source = wanted.app.source;

  # A flake that git does not look after (`path:`) is copied as a whole, secrets included.
  exposed =
    lib.hasPrefix builtins.storeDir (toString topology)
    && builtins.pathExists (dirOf topology + "/.gen-topology/secrets");

  # Without what tools leave behind, and never with a developer's secrets. The lab leaves out the same, but for
  # the tests and what only git ignores.
  codeOf =
    source:
    builtins.path {
      name = "app";
      path = dirOf topology + "/${source}";
      filter =
        path: _:
        # What was rendered changes with every setting.
        path != toString hosts
        && !(
          dirOf path == toString (dirOf topology)
          && lib.elem (baseNameOf path) [
            "topology.json"
            "topology.schema.json"
          ]
        )
        && !lib.elem (baseNameOf path) [
          ".env"
          ".gen-topology"
          ".git"
          ".mypy_cache"
          ".pytest_cache"
          ".ruff_cache"
          ".venv"
          "__pycache__"
          "node_modules"
          "tests"
        ];
    };
  app = codeOf source;
  # Further applications, by name.
  apps = lib.mapAttrs (_: further: codeOf further.source) (wanted.apps or { });

  rendered = lib.filterAttrs (
    name: kind: kind == "directory" && builtins.pathExists (hosts + "/${name}/node.json")
  ) (if builtins.pathExists hosts then builtins.readDir hosts else { });
  stray = lib.subtractLists (lib.attrNames wanted.nodes) (lib.attrNames rendered);
  unknown = lib.subtractLists (lib.attrNames wanted.nodes) (lib.attrNames nodeModules);

  factsOf =
    name: node:
    let
      path = "${directory}/${name}";
      facts = lib.importJSON (hosts + "/${name}/node.json");
      differs =
        what: there: here:
        lib.throwIf (
          there != here
        ) "${path}/node.json says ${what} ${there}, and ${file} says ${here}; ${regenerate}.";
    in
    lib.throwIfNot (rendered ? ${name})
      "${path} is missing, and ${file} has the node ${name}; ${regenerate}."
      (
        lib.throwIfNot (builtins.pathExists (hosts + "/${name}/default.nix"))
          "${path}/default.nix is missing; ${regenerate}."
          (
            differs "tier" facts.tier node.tier (
              differs "address" facts.address node.address (
                differs "virtual IP" facts.virtual_ip wanted.network.virtual_ip facts
              )
            )
          )
      );

  facts =
    lib.throwIf (stray != [ ])
      "${directory}/${lib.head stray} belongs to no node of ${file}; ${regenerate}, or remove it."
      (
        lib.throwIf (unknown != [ ])
          "mkStack: nodeModules names ${lib.head unknown}, which is no node of ${file}; correct it in flake.nix."
          (lib.mapAttrs factsOf wanted.nodes)
      );

  # hosts/<node>/default.nix imports ../../modules: ours here, and in a project of your
  # own a file of three lines that imports `gen-topology.nixosModules.default`.
  imported =
    lib.throwIfNot (builtins.pathExists (hosts + "/../modules/default.nix"))
      "modules/default.nix is missing beside ${directory}: the hosts import it; create it with `{ gen-topology, ... }: { imports = [ gen-topology.nixosModules.default ]; }`."
      true;

  # What makes a node, without the machine below it: for nixosSystem and for VM tests.
  nixosModules = lib.mapAttrs (
    name: node:
    # First whether it fits, then the import, which would end with a sentence of Nix's own.
    assert imported;
    lib.throwIf exposed
      ".gen-topology/secrets is in the Nix store now, where everybody can read it: use the flake through git, not `path:`, delete that store path, and rotate the secrets."
      (
        builtins.seq node {
          imports = [ (hosts + "/${name}") ] ++ modules ++ nodeModules.${name} or [ ];
          services.gen-topology.app.source = lib.mkIf (node.tier == "app") (lib.mkDefault app);
          services.gen-topology.apps = builtins.listToAttrs (
            map (further: lib.nameValuePair further.name { source = lib.mkDefault apps.${further.name}; }) (
              node.app.further or [ ]
            )
          );
        }
      )
  ) facts;

  specialArgs = { inherit gen-topology; };

  nixosConfigurations = lib.mapAttrs (
    _: node:
    lib.nixosSystem {
      inherit specialArgs;
      modules = [
        node
        ./machine.nix
        # Ready made, so that no module may set `nixpkgs.*` and tests have the same one.
        { nixpkgs.pkgs = pkgs; }
      ];
    }
  ) nixosModules;
in
{
  inherit
    facts
    nixosConfigurations
    nixosModules
    pkgs
    specialArgs
    ;

  # The topology as it was read.
  topology = wanted;

  images = lib.mapAttrs (_: machine: {
    inherit (machine.config.system.build.images) openstack qemu virtualbox;
  }) nixosConfigurations;

  vms = import ./vms.nix {
    inherit lib pkgs nixosConfigurations;
    topology = wanted;
    inherit facts;
  };

  # Fails when `hosts` is not what the program renders from `topology`.
  upToDate =
    pkgs.runCommand "${wanted.name}-hosts-are-up-to-date"
      {
        nativeBuildInputs = [ (pkgs.callPackage ../package.nix { }) ];
      }
      ''
        # The topology names the application by its place, so it needs one here.
        mkdir -p project/here/${lib.escapeShellArg source}
        cp ${topology} project/here/topology.json
        cp -r ${app}/. project/here/${lib.escapeShellArg source}
        ${lib.concatStrings (
          lib.mapAttrsToList (name: code: ''
            mkdir -p project/here/${lib.escapeShellArg wanted.apps.${name}.source}
            cp -r ${code}/. project/here/${lib.escapeShellArg wanted.apps.${name}.source}
          '') apps
        )}
        gen-topology --file project/here/topology.json generate --check --output ${hosts}
        touch "$out"
      '';
}
