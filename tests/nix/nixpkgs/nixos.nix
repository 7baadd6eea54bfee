# A NixOS that has the options of ../options.nix and builds nothing.
{ lib }:
{
  modules,
  specialArgs ? { },
}:
let
  package = import ./package.nix;
  options = import ../options.nix { inherit lib; };
in
lib.evalModules {
  inherit specialArgs;
  modules =
    options.nixos
    ++ modules
    ++ [
      (
        {
          config,
          extendModules,
          ...
        }:
        let
          failed = map (assertion: assertion.message) (
            lib.filter (assertion: !assertion.assertion) config.assertions
          );
          # Every definition of every option, looked at.
          whole =
            extra:
            builtins.deepSeq (lib.removeAttrs (extra.config) [
              "_module"
              "boot"
              "image"
              "nixpkgs"
              "services"
              "system"
              "virtualisation"
            ]) (builtins.deepSeq extra.config.services.nginx extra.config);
          variant = declared: module: extendModules { modules = declared ++ [ module ]; };
        in
        {
          _module.args.pkgs = config.nixpkgs.pkgs;
          _module.args.utils.escapeSystemdExecArgs =
            arguments: lib.concatStringsSep " " (map toString arguments);
          # The parts of nginx.conf that come from us, in upstream's order.
          environment.etc = lib.mkIf config.services.nginx.enable {
            "nginx/nginx.conf".source = package {
              name = "nginx.conf";
              text = with config.services.nginx; ''
                daemon off;
                events {
                  ${eventsConfig}
                }
                http {
                  client_max_body_size 10m;
                  server_tokens off;
                  ${appendHttpConfig}
                }
                ${appendConfig}
              '';
            };
          };
          system.build = {
            toplevel =
              if failed != [ ] then
                throw (lib.concatStringsSep "\n" failed)
              else
                builtins.seq (whole { inherit config; }) (package {
                  name = "nixos-system-${config.networking.hostName}";
                });
            vm =
              let
                vm = variant options.qemu config.virtualisation.vmVariant;
              in
              package {
                name = "nixos-vm";
                inherit (vm.config) virtualisation;
              };
            images =
              lib.genAttrs [
                "openstack"
                "qemu"
              ] (name: package { name = "${config.networking.hostName}-${name}"; })
              // {
                virtualbox =
                  let
                    image = variant options.virtualbox config.image.modules.virtualbox;
                  in
                  package {
                    name = "${config.networking.hostName}-virtualbox";
                    inherit (image.config.virtualbox) params;
                  };
              };
          };
        }
      )
    ];
}
