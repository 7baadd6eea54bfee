{
  description = "A highly available web stack";

  inputs = {
    gen-topology.url = "github:gen-topology/gen-topology";
    nixpkgs.follows = "gen-topology/nixpkgs";
  };

  outputs =
    { gen-topology, nixpkgs, ... }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};

      stack = gen-topology.lib.mkStack {
        inherit system;
        topology = ./topology.json;
        hosts = ./hosts;
        # NixOS modules of single nodes: nodeModules.lb-1 = [ ./lb-1.nix ];
      };
    in
    {
      # nix run .#deploy
      inherit (stack) nixosConfigurations;

      # nix build .#images.lb-1.qemu (or openstack, virtualbox)
      legacyPackages.${system} = { inherit (stack) images; };

      # nix run .#vms
      apps.${system} = {
        gen-topology = gen-topology.apps.${system}.gen-topology;
        inherit (gen-topology.apps.${system}) deploy lab;
        vms = {
          type = "app";
          program = nixpkgs.lib.getExe stack.vms;
          meta.description = "The stack as QEMU virtual machines, without root";
        };
      };

      # Fails when hosts/ is not what topology.json says.
      checks.${system}.hosts = stack.upToDate;

      # gen-topology and what its lab needs.
      devShells.${system}.default = gen-topology.devShells.${system}.default;

      formatter.${system} = pkgs.nixfmt-tree;
    };
}
