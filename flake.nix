{
  description = "From one topology file to a highly available web stack that is proven to survive failures";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = lib.genAttrs systems;

      # One nixpkgs for packages, machines and tests alike, with the one package in it
      # that is not free. Machines and test nodes get it ready made: they set no `nixpkgs.*`.
      pkgsFor = eachSystem (
        system:
        import nixpkgs {
          inherit system;
          config.allowUnfreePredicate = package: lib.getName package == "mongodb-ce";
        }
      );

      mkStack = import ./nix/stack.nix {
        inherit lib pkgsFor;
        gen-topology = self;
      };

      # What this repository ships. Images and machines of other systems: mkStack { system = …; }.
      stack = mkStack {
        topology = ./topology.json;
        hosts = ./hosts;
      };

      stackFor =
        system:
        mkStack {
          inherit system;
          topology = ./topology.json;
          hosts = ./hosts;
        };

      programs = eachSystem (system: pkgsFor.${system}.callPackage ./package.nix { });

      app = description: program: {
        type = "app";
        inherit program;
        meta = { inherit description; };
      };
    in
    {
      packages = eachSystem (system: {
        default = programs.${system};
        gen-topology = programs.${system};
      });

      apps = eachSystem (
        system:
        let
          pkgs = pkgsFor.${system};
          program = lib.getExe programs.${system};
          lab = pkgs.writeShellApplication {
            name = "gen-topology-lab";
            runtimeInputs = import ./nix/lab-tools.nix pkgs;
            text = ''exec ${program} lab "$@"'';
          };
          # With the user's own ssh and nix: their settings, agent and builders are meant.
          deploy = pkgs.writeShellApplication {
            name = "gen-topology-deploy";
            text = ''exec ${program} deploy "$@"'';
          };
        in
        {
          default = app "The generator and the lab" program;
          gen-topology = app "The generator and the lab" program;
          lab = app "The stack on this machine, each node in namespaces of its own" (lib.getExe lab);
          vms = app "The stack as QEMU virtual machines, without root" (lib.getExe (stackFor system).vms);
          deploy = app "The stack rolled out to its machines, node by node behind health gates" (
            lib.getExe deploy
          );
        }
      );

      inherit (stack) nixosConfigurations;

      nixosModules = {
        default = ./modules;
        # A root file system and a boot loader for machines that have none described yet.
        machine = ./nix/machine.nix;
      };

      checks = eachSystem (
        system:
        import ./nix/checks.nix {
          inherit lib mkStack;
          pkgs = pkgsFor.${system};
          package = programs.${system};
          stack = stackFor system;
        }
      );

      # Nodes × formats, each a whole NixOS: below legacyPackages, where `nix flake check`
      # does not look. `nix build .#images.node-1.qemu`
      legacyPackages = eachSystem (system: {
        inherit (stackFor system) images;
        # Not among the checks: they need Nix to hand out ranges of user ids, which is off by default.
        containerTests =
          (import ./tests/nixos {
            inherit lib mkStack;
            pkgs = pkgsFor.${system};
          }).containers;
      });

      devShells = eachSystem (
        system:
        let
          pkgs = pkgsFor.${system};
        in
        {
          default = pkgs.mkShell {
            inputsFrom = [ programs.${system} ];
            packages = import ./nix/lab-tools.nix pkgs ++ [
              pkgs.clippy
              pkgs.gixy
              pkgs.nixfmt
              pkgs.rustfmt
            ];
          };
        }
      );

      formatter = eachSystem (system: pkgsFor.${system}.nixfmt-tree);

      templates.default = {
        path = ./templates/default;
        description = "A stack of your own: topology file, machines and images";
        welcomeText = ''
          Next:

              git init && git add .
              nix run .#gen-topology -- init
              nix run .#gen-topology -- generate
              git add .
              nix run .#vms
        '';
      };

      lib = { inherit mkStack; };
    };
}
