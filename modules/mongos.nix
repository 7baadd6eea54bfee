# mongos on an app server of a sharded stack: it knows which shard has what, and the
# application talks to it by the loopback interface. It has no data of its own.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.mongos;
  port = top.facts.app.router_port or null;
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

  config = lib.mkIf (top.enable && cfg.enable) {
    assertions = [
      {
        assertion = port != null;
        message = "services.gen-topology.mongos: ${top.facts.name} has no `app.router_port` in its facts; is it an app server of a sharded stack in the topology file?";
      }
    ];

    environment.etc."mongos.conf".source = cfg.configFile;

    users.users.mongodb = {
      isSystemUser = true;
      group = "mongodb";
    };
    users.groups.mongodb = { };

    systemd.services.mongos = {
      description = "MongoDB's router";
      documentation = [ "https://www.mongodb.com/docs/manual/" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # Before the application when starting, so after it when stopping.
      before = [ "supervisord.service" ];
      restartTriggers = [ cfg.configFile ];
      stopIfChanged = false;
      unitConfig.StartLimitIntervalSec = 0;

      serviceConfig = import ./hardening.nix // {
        Type = "exec";
        # As root (`+`), and a copy, for the same reasons as mongod's.
        ExecStartPre = "+${lib.getExe' pkgs.coreutils "install"} -D -m 0400 -o mongodb -g mongodb ${lib.escapeShellArg top.secrets.databaseKey} /run/gen-topology/secrets/database-key";
        ExecStart = lib.concatStringsSep " " [
          (lib.getExe' cfg.package "mongos")
          "--config"
          "/etc/mongos.conf"
        ];
        KillMode = "mixed";
        # It answers for 5 s what it has begun, and waits for another 3 s.
        TimeoutStopSec = 30;
        # Also when it ends by itself, as it does when it has waited too long for config servers.
        Restart = "always";
        RestartSec = "1s";

        User = "mongodb";
        Group = "mongodb";
        LogsDirectory = "mongodb";
        LogsDirectoryMode = "0750";

        CapabilityBoundingSet = "";
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_UNIX"
        ];
        SystemCallFilter = [
          "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap"
        ];
        LimitNOFILE = 64000;
        TasksMax = "infinity";
      };
    };

    # mongos opens its log anew when it gets USR1, as mongod does.
    services.logrotate.settings.mongos = {
      files = [ "/var/log/mongodb/mongos.log" ];
      su = "mongodb mongodb";
      frequency = lib.mkDefault "daily";
      rotate = lib.mkDefault 14;
      compress = lib.mkDefault true;
      delaycompress = true;
      missingok = true;
      notifempty = true;
      postrotate = "/run/current-system/systemd/bin/systemctl kill --kill-whom=main --signal=USR1 mongos.service || true";
    };

    # The config servers bring the cluster to what the topology says through it.
    services.gen-topology.firewall.rules = lib.optional (port != null) { inherit port; };
  };
}
