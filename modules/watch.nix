# The databases' watcher, on databases and app nodes: notices within tenths of a second which
# database is gone, has another one elected, and ends connections to it.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  top = config.services.gen-topology;
  inherit (top) facts;
  database = facts.database or null;
  app = facts.app or null;
  watch = if database != null then database.watch or null else app.watch or null;
  enable = top.enable && (top.mongodb.enable || top.app.enable) && watch != null;
in
{
  config = lib.mkIf enable {
    systemd.services.watch-database = {
      description = "Watcher of the databases";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "mongod.service"
        "network-online.target"
      ];
      # `ss`, which ends connections.
      path = [ pkgs.iproute2 ];
      restartTriggers = [
        (builtins.toJSON {
          inherit watch;
          members = database.members or app.databases;
        })
      ];
      stopIfChanged = false;
      unitConfig = import ./unit.nix;

      serviceConfig = import ./hardening.nix lib {
        Type = "exec";
        # `%d` is systemd's word for the credentials' directory, and must not be escaped.
        ExecStart =
          utils.escapeSystemdExecArgs [
            (lib.getExe top.package)
            "node"
            "watch-database"
            "--secrets"
          ]
          + " %d";
        # An app node asks no database for anything that needs a password.
        LoadCredential = lib.optional (database != null) "administration:${top.secrets.administration}";
        Restart = "always";
        RestartSec = "1s";
        # Root, with no more of root's powers than this one: ending connections.
        CapabilityBoundingSet = [ "CAP_NET_ADMIN" ];
        MemoryDenyWriteExecute = true;
        # Its figures, for a collector: watch-database.prom.
        ReadWritePaths = [ "/run/gen-topology" ];
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_NETLINK"
          "AF_UNIX"
        ];
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
        ];
      };
    };
  };
}
