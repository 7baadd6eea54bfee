# mongod on a database node, and the command that keeps its replica set as it should be.
#
# Not upstream's services.mongodb. That one
# - writes the file from options and dotted keys, so it could not carry our bytes;
# - has no Restart=, forks, does not wait for the network, and stops mongod after the
#   default of systemd, before a primary has handed over;
# - runs `rs.initiate` in a script of the first start, when the other members are not up.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.mongodb;
  inherit (top.facts) database;

  members = lib.filter (member: member.name == top.facts.name) (database.members or [ ]);
  port = lib.toInt (lib.last (lib.splitString ":" (lib.head members).host));

  daemon = import ./mongo-daemon.nix {
    inherit
      lib
      pkgs
      utils
      top
      cfg
      ;
    name = "mongod";
  };

  # A copy that fails or is not tried leaves nothing, so whatever is there is whole.
  copy = pkgs.writeShellApplication {
    name = "gen-topology-backup-database";
    runtimeInputs = [
      top.package
      pkgs.coreutils
    ];
    text = ''
      cd ${lib.escapeShellArg cfg.backup.directory}
      gen-topology node backup "$(date --utc +%Y-%m-%dT%H-%M-%SZ)" \
        --secrets "$CREDENTIALS_DIRECTORY" --mongod ${lib.getExe' cfg.package "mongod"}
      # Only what such a copy looks like: its name, and the file that says what it holds.
      for manifest in 20??-??-??T??-??-??Z/backup.json; do
        dirname "$manifest"
      done | head --lines=-${toString cfg.backup.keep} | while read -r old; do
        rm --recursive "$old"
      done
    '';
  };

  # Like mongod, whom they talk to.
  confined =
    own:
    import ./hardening.nix lib (
      {
        CapabilityBoundingSet = "";
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_UNIX"
        ];
      }
      // own
    );
in
{
  options.services.gen-topology.mongodb = {
    enable = lib.mkEnableOption "mongod as a member of the stack's replica set";

    # Never pkgs.mongodb: built from source on your machine, for hours. This one is
    # MongoDB's own build. Its licence, SSPL-1.0, is not free: allow it where nixpkgs is
    # imported, with `allowUnfreePredicate = pkg: lib.getName pkg == "mongodb-ce"`.
    package = lib.mkPackageOption pkgs "mongodb-ce" { };

    configFile = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/mongod.conf";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/mongod.conf"'';
      description = "mongod's configuration.";
    };

    reconcile = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = ''
        Whether this node brings the replica set to what the facts say, with
        `gen-topology node reconcile-database`. Safe on every member at once and again and again.
      '';
    };

    backup = {
      schedule = lib.mkOption {
        type = lib.types.nullOr lib.types.str;
        default = null;
        example = "03:00";
        description = ''
          When this node copies the application's data, as {manpage}`systemd.time(7)` has it; never if
          null. One node of the replica set is enough, better not the one that is mostly primary. A
          sharded stack is not copied by this.
        '';
      };

      directory = lib.mkOption {
        type = lib.types.str;
        default = "/var/backup/gen-topology";
        description = "Where the copies are, each in a directory with its time for a name. They are as secret as the data.";
      };

      keep = lib.mkOption {
        type = lib.types.ints.positive;
        default = 14;
        description = "How many copies stay; older ones are removed after a new one has been made and tried.";
      };
    };
  };

  config = lib.mkIf (top.enable && cfg.enable) (
    lib.mkMerge [
      daemon
      {
        assertions = [
          {
            assertion = members != [ ];
            message = "services.gen-topology.mongodb: ${top.facts.name} is no member of `database.members` in its facts; is it a database in the topology file?";
          }
          {
            assertion = cfg.backup.schedule == null || (database.role or null) == null;
            message = "services.gen-topology.mongodb.backup: the data of a sharded stack are on several replica sets, which this does not copy; see \"Backups\" in docs/database.md.";
          }
          {
            assertion = !config.services.mongodb.enable;
            message = "services.gen-topology.mongodb and services.mongodb can't both run on ${top.facts.name}; turn one off.";
          }
          {
            # MongoDB 8 dies on these kernels (SERVER-121912, google/tcmalloc#292).
            assertion =
              let
                kernel = config.boot.kernelPackages.kernel.version;
              in
              !(lib.versionAtLeast kernel "6.19" && lib.versionOlder kernel "7.0.14");
            message = "services.gen-topology.mongodb: MongoDB 8 crashes on Linux 6.19 up to 7.0.13; keep the default kernel on ${top.facts.name}.";
          }
        ];

        systemd.services.mongod = {
          description = "MongoDB";
          serviceConfig = {
            # A primary steps down first.
            TimeoutStopSec = 60;
            Restart = "on-failure";
            StateDirectory = "mongodb";
            StateDirectoryMode = "0700";
            LimitNPROC = 64000;
            LimitMEMLOCK = "infinity";
          };
        };

        systemd.services.reconcile-database = lib.mkIf cfg.reconcile {
          description = "Replica set as the topology says";
          wantedBy = [ "multi-user.target" ];
          wants = [ "network-online.target" ];
          after = [
            "mongod.service"
            "network-online.target"
          ];
          # Changed members or time-outs; the rest of the facts is none of its business.
          restartTriggers = [ (builtins.toJSON database) ];
          stopIfChanged = false;
          unitConfig = import ./unit.nix;

          serviceConfig = confined {
            # Done once, and then "active (exited)". Not `oneshot`: a switch would wait for
            # it, and it waits for the other members, which may be switched later.
            Type = "exec";
            RemainAfterExit = true;
            # %d, systemd's word for the credentials' directory, stays as it is.
            ExecStart =
              utils.escapeSystemdExecArgs [
                (lib.getExe top.package)
                "node"
                "reconcile-database"
                "--secrets"
              ]
              + " %d";
            LoadCredential = [
              "database-key:${top.secrets.databaseKey}"
              "application:${top.secrets.application}"
              "monitoring:${top.secrets.monitoring}"
              "administration:${top.secrets.administration}"
            ];
            # Also after 78, "needs a person": it ends only after a minute, and goes on by
            # itself once that person has done something.
            Restart = "on-failure";
            RestartSec = "5s";
            DynamicUser = true;
            MemoryDenyWriteExecute = true;
            ProtectProc = "invisible";
            SystemCallFilter = [
              "@system-service"
              "~@privileged"
            ];
          };
        };

        systemd.services.backup-database = lib.mkIf (cfg.backup.schedule != null) {
          description = "Copy of the application's data";
          unitConfig = { inherit (import ./unit.nix) ConditionPathExists; };
          startAt = cfg.backup.schedule;
          wants = [ "network-online.target" ];
          after = [
            "mongod.service"
            "network-online.target"
          ];

          serviceConfig = confined {
            Type = "oneshot";
            ExecStart = lib.getExe copy;
            LoadCredential = [ "application:${top.secrets.application}" ];
            # Root: the copies are nobody else's.
            ReadWritePaths = [ cfg.backup.directory ];
            SystemCallFilter = [
              "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap"
            ];
          };
        };

        systemd.tmpfiles.settings."10-gen-topology" = lib.mkIf (cfg.backup.schedule != null) {
          ${cfg.backup.directory}.d = {
            mode = "0700";
            user = "root";
            group = "root";
          };
        };
      }
    ]
  );
}
