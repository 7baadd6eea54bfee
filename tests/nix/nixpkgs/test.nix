# testers.runNixOSTest, as far as its options and its machines go. `nixpkgs.pkgs` is
# given, so a machine that sets it, too, is an error, as it is there.
{
  lib,
  pkgs,
  package,
}:
test:
let
  inherit (lib) mkOption types;
  options = import ../options.nix { inherit lib; };

  # What container-config.nix and resolved.nix make of a container.
  contained =
    { config, ... }:
    {
      networking.useHostResolvConf = lib.mkDefault true;
      assertions = [
        {
          assertion = !(config.networking.useHostResolvConf && config.networking.useNetworkd);
          message = "Using host resolv.conf is not supported with systemd-resolved";
        }
      ];
    };

  machines =
    declared: default:
    mkOption {
      default = { };
      type = types.lazyAttrsOf types.deferredModule;
      apply = lib.mapAttrs (
        _: module:
        (import ./nixos.nix { inherit lib; }) {
          inherit (config.node) specialArgs;
          modules = declared ++ [
            module
            default
            {
              nixpkgs.pkgs = pkgs;
              # As qemu-vm.nix has it, at normal priority.
              networking.usePredictableInterfaceNames = false;
            }
          ];
        }
      );
    };

  inherit
    (lib.evalModules {
      modules = [
        test
        {
          options = {
            name = mkOption { type = types.str; };
            requiredFeatures.kvm = mkOption {
              type = types.bool;
              default = true;
            };
            globalTimeout = mkOption { type = types.int; };
            testScript = mkOption { type = types.str; };
            defaults = mkOption {
              type = types.deferredModule;
              default = { };
            };
            node.specialArgs = mkOption { type = types.lazyAttrsOf types.raw; };
            nodes = machines options.node config.defaults;
            containers = machines (options.container ++ [ contained ]) config.defaults;
          };
        }
      ];
    })
    config
    ;
in
package {
  name = "vm-test-run-${config.name}";
  inherit (config)
    containers
    nodes
    requiredFeatures
    testScript
    ;
  driver = package { name = "nixos-test-driver-${config.name}"; };
}
