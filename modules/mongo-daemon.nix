# What mongod and mongos share: MongoDB's user, a service that waits for the network and has
# the members' key, and a log that the daemon opens anew when it gets USR1 (`logRotate: reopen`).
{
  lib,
  pkgs,
  utils,
  top,
  # `mongod` or `mongos`, and the options of its module.
  name,
  cfg,
}:
{
  environment.etc."${name}.conf".source = cfg.configFile;

  users.users.mongodb = {
    isSystemUser = true;
    group = "mongodb";
  };
  users.groups.mongodb = { };

  systemd.services.${name} = {
    documentation = [ "https://www.mongodb.com/docs/manual/" ];
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ];
    after = [ "network-online.target" ];
    # No reload: a new configuration is a restart.
    restartTriggers = [ cfg.configFile ];
    stopIfChanged = false;
    unitConfig = import ./unit.nix;

    serviceConfig = import ./hardening.nix lib {
      Type = "exec";
      # As root (`+`): the source is root's. A copy, because MongoDB wants a key that only
      # its owner can read, and a credential's access list looks as if a group could.
      ExecStartPre = "+${lib.getExe' pkgs.coreutils "install"} -D -m 0400 -o mongodb -g mongodb ${lib.escapeShellArg top.secrets.databaseKey} /run/gen-topology/secrets/database-key";
      ExecStart = utils.escapeSystemdExecArgs [
        (lib.getExe' cfg.package name)
        "--config"
        "/etc/${name}.conf"
      ];
      # It answers for 5 s what it has begun.
      KillMode = "mixed";
      RestartSec = "1s";

      User = "mongodb";
      Group = "mongodb";
      LogsDirectory = "mongodb";
      LogsDirectoryMode = "0750";

      CapabilityBoundingSet = "";
      RestrictAddressFamilies = [
        "AF_INET"
        "AF_INET6"
        # It reads the list of interfaces.
        "AF_NETLINK"
        "AF_UNIX"
      ];
      # No MemoryDenyWriteExecute (its JavaScript engine writes code), no ProcSubset or
      # ProtectProc (it reads the machine's figures), and no SystemCallFilter beyond
      # this deny list: its needs change with each version.
      SystemCallFilter = [
        "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap"
      ];
      # Of MongoDB's production notes.
      LimitNOFILE = 64000;
      TasksMax = "infinity";
    };
  };

  services.logrotate.settings.${name} = {
    files = [ "/var/log/mongodb/${name}.log" ];
    su = "mongodb mongodb";
    frequency = lib.mkDefault "daily";
    rotate = lib.mkDefault 14;
    compress = lib.mkDefault true;
    delaycompress = true;
    missingok = true;
    notifempty = true;
    postrotate = "/run/current-system/systemd/bin/systemctl kill --kill-whom=main --signal=USR1 ${name}.service || true";
  };
}
