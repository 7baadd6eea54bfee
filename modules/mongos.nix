# mongos on an app server of a sharded stack: it knows which shard has what, and the
# application talks to it by the loopback interface. It has no data of its own.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.mongos;
  port = top.facts.app.router_port or null;

  daemon = import ./mongo-daemon.nix {
    inherit
      lib
      pkgs
      utils
      top
      cfg
      ;
    name = "mongos";
  };
in
{
  options.services.gen-topology.mongos = {
    enable = lib.mkEnableOption "mongos, the router of a sharded stack";

    # The same as for mongod, and with the same licence: see mongodb.nix.
    package = lib.mkPackageOption pkgs "mongodb-ce" { };

    configFile = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/mongos.conf";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/mongos.conf"'';
      description = "mongos's configuration.";
    };
  };

  config = lib.mkIf (top.enable && cfg.enable) (
    lib.mkMerge [
      daemon
      {
        assertions = [
          {
            assertion = port != null;
            message = "services.gen-topology.mongos: ${top.facts.name} has no `app.router_port` in its facts; is it an app server of a sharded stack in the topology file?";
          }
        ];

        systemd.services.mongos = {
          description = "MongoDB's router";
          # Before the application when starting, so after it when stopping.
          before = [ "supervisord.service" ];
          serviceConfig = {
            # It waits for another 3 s.
            TimeoutStopSec = 30;
            # Also when it ends by itself, as it does when it has waited too long for config servers.
            Restart = "always";
          };
        };
      }
    ]
  );
}
