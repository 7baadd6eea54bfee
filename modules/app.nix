# The application on an app server: gunicorn under supervisord.
#
# The same tree of processes as in the lab: supervisord runs the instances of gunicorn,
# each with a socket of its own, and the program that drains the node before they end.
# supervisord itself is an ordinary service of systemd.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.app;
  user = "gen-topology-app";

  supervisorConfig = "/etc/supervisor/supervisord.conf";

  # As root (`+`): the source is root's. A file with a name of its own, because the
  # application reads it again when the password changes.
  password = "+${lib.getExe' pkgs.coreutils "install"} -D -m 0400 -o ${user} -g ${user} ${lib.escapeShellArg top.secrets.application} /run/gen-topology/secrets/application";

  own = map (
    name:
    "+${lib.getExe' pkgs.coreutils "install"} -D -m 0400 -o ${user} -g ${user} ${lib.escapeShellArg "${top.secrets.app}/${name}"} /run/gen-topology/secrets/app/${name}"
  ) names;
  names = top.facts.app.secrets or [ ];

  # Further applications of this server, by name.
  further = map (app: app.name) (top.facts.app.further or [ ]);
  # An assertion tells which are missing.
  known = lib.filter (name: top.apps ? ${name}) further;
  pythonOf =
    name:
    if top.apps.${name}.python != null then
      top.apps.${name}.python
    else
      pkgs.python3.withPackages top.apps.${name}.packages;
  furtherConfig = name: top.files + "/gunicorn/apps/${name}.conf.py";

  # One line for each application: how its programs begin, and what they run.
  versions = pkgs.writeShellApplication {
    name = "gen-topology-app-versions";
    runtimeInputs = [ pkgs.coreutils ];
    text = ''
      tell() {
        printf '%s %s\n' "$1" "$(readlink --canonicalize "''${@:2}" | sha256sum)"
      }
      tell gunicorn /etc/gen-topology/app /etc/gen-topology/python /etc/gunicorn/gunicorn.conf.py
    ''
    + lib.concatMapStrings (name: ''
      tell gunicorn-${name} /etc/gen-topology/apps/${name} /etc/gen-topology/pythons/${name} /etc/gunicorn/apps/${name}.conf.py
    '') further;
  };
  # What ran when the instances were last started, of each application.
  ran = "/run/supervisor/versions";

  remember = pkgs.writeShellApplication {
    name = "gen-topology-remember-app-versions";
    text = "${lib.getExe versions} > ${ran}";
  };

  passwords = lib.optional (!(top.facts.app.without_database or false)) password ++ own;

  # What supervisord may take to end: it waits for each of its programs in turn.
  toEnd = lib.foldl' (
    seconds: line:
    let
      wait = builtins.match "stopwaitsecs=([0-9]+)" line;
    in
    if wait == null then seconds else seconds + lib.toInt (lib.head wait)
  ) 5 (lib.splitString "\n" (builtins.readFile cfg.supervisorConfig));

  # supervisord takes over a changed supervisord.conf and leaves what has not changed alone. Of the app's
  # instances one after the other, and each once: those whose program changed or that are new, then those
  # that need the app's new code, packages or configuration. The next one waits until this one listens;
  # nginx takes the others meanwhile. Of several applications only those with something new are restarted; where none has,
  # somebody asked for it, for a secret perhaps, and all are.
  reload = pkgs.writeShellApplication {
    name = "gen-topology-reload-app";
    runtimeInputs = [
      cfg.supervisor
      pkgs.gawk
      pkgs.gnugrep
    ];
    text = ''
      control() { supervisorctl --configuration ${supervisorConfig} "$@"; }
      await() {
        for _ in $(seq 50); do
          if /etc/gen-topology/python/bin/python -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "/run/gen-topology/$1.sock" 2>/dev/null; then
            return 0
          fi
          sleep 0.2
        done
        echo "$1 does not listen after 10 s; the next one is restarted all the same" >&2
      }
      now=$(${lib.getExe versions})
      news=$(grep --invert-match --line-regexp --fixed-strings --file=${ran} <<< "$now" || true)
      # What `reread` says of a program: available, changed or disappeared.
      said=$(control reread)
      others=$(awk -F: '!/^gunicorn-/ && /: (available|changed|disappeared)/ { print $1 }' <<< "$said")
      instances=$(awk -F: '/^gunicorn-.*: (available|changed)/ { print $1 }' <<< "$said")
      gone=$(awk -F: '/^gunicorn-.*: disappeared/ { print $1 }' <<< "$said")
      for program in $others; do
        control update "$program"
      done
      for instance in $instances; do
        control update "$instance"
        await "$instance"
      done
      for instance in $gone; do
        control update "$instance"
      done
      # Not `|| exit`: status ends with 3 when some instance does not run, which is no reason to stop.
      for instance in $({ control status || true; } | awk '/^gunicorn-/ { print $1 }'); do
        if [[ -n $news ]] && ! grep --quiet "^''${instance%-*} " <<< "$news"; then
          continue
        fi
        if ! grep --quiet --line-regexp "$instance" <<< "$instances"; then
          control restart "$instance"
          await "$instance"
        fi
      done
      printf '%s\n' "$now" > ${ran}
    '';
  };
in
{
  options.services.gen-topology.app = {
    enable = lib.mkEnableOption "the application, run by gunicorn under supervisord";

    source = lib.mkOption {
      type = lib.types.path;
      example = lib.literalExpression "./app";
      description = "Directory of the application's code, which holds the module that gunicorn loads.";
    };

    packages = lib.mkOption {
      type = lib.types.functionTo (lib.types.listOf lib.types.package);
      default = ps: [
        ps.flask
        ps.gunicorn
        ps.pymongo
      ];
      defaultText = lib.literalExpression "ps: [ ps.flask ps.gunicorn ps.pymongo ]";
      description = "Packages of Python that the application needs, gunicorn among them.";
    };

    python = lib.mkOption {
      type = lib.types.package;
      default = pkgs.python3.withPackages cfg.packages;
      defaultText = lib.literalExpression "pkgs.python3.withPackages config.services.gen-topology.app.packages";
      description = ''
        Python with the application's packages, for those who lock them otherwise than
        nixpkgs does. It is found at {file}`/etc/gen-topology/python`.
      '';
    };

    supervisor = lib.mkPackageOption pkgs [ "python3Packages" "supervisor" ] { };

    supervisorConfig = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/supervisor/supervisord.conf";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/supervisor/supervisord.conf"'';
      description = "supervisord's configuration.";
    };

    gunicornConfig = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/gunicorn/gunicorn.conf.py";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/gunicorn/gunicorn.conf.py"'';
      description = "gunicorn's configuration.";
    };

    environmentFile = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = "/run/keys/app.env";
      description = ''
        File of `NAME=value` lines for the application, such as passwords. It stays outside
        the store, where everybody could read it.
      '';
    };
  };

  options.services.gen-topology.apps = lib.mkOption {
    default = { };
    description = "The further applications that this server runs, by name; the topology file has them in `apps`.";
    type = lib.types.attrsOf (
      lib.types.submodule {
        options = {
          source = lib.mkOption {
            type = lib.types.path;
            example = lib.literalExpression "./shop";
            description = "Directory of the application's code, which holds the module that gunicorn loads.";
          };
          packages = lib.mkOption {
            type = lib.types.functionTo (lib.types.listOf lib.types.package);
            default = cfg.packages;
            defaultText = lib.literalExpression "config.services.gen-topology.app.packages";
            description = "Packages of Python that the application needs, gunicorn among them.";
          };
          python = lib.mkOption {
            type = lib.types.nullOr lib.types.package;
            default = null;
            description = "Python with the application's packages, for those who lock them otherwise than nixpkgs does; null has `packages`.";
          };
        };
      }
    );
  };

  config = lib.mkIf (top.enable && cfg.enable) {
    assertions = map (name: {
      assertion = top.apps ? ${name};
      message = "services.gen-topology.apps.${name}.source is missing: ${top.facts.name} runs the application ${name}, as the topology file says.";
    }) further;

    environment.etc = {
      "gen-topology/app".source = cfg.source;
      "gen-topology/python".source = cfg.python;
      "gunicorn/gunicorn.conf.py".source = cfg.gunicornConfig;
      "supervisor/supervisord.conf".source = cfg.supervisorConfig;
    }
    // builtins.listToAttrs (
      lib.concatMap (name: [
        (lib.nameValuePair "gen-topology/apps/${name}" { inherit (top.apps.${name}) source; })
        (lib.nameValuePair "gen-topology/pythons/${name}" { source = pythonOf name; })
        (lib.nameValuePair "gunicorn/apps/${name}.conf.py" { source = furtherConfig name; })
      ]) known
    )
    // lib.optionalAttrs (names != [ ]) {
      # What `gen-topology deploy` looks for before it touches a machine.
      "gen-topology/secrets-of-app".source = builtins.toFile "secrets-of-app" (
        lib.concatMapStrings (name: "${top.secrets.app}/${name}\n") names
      );
    };

    # supervisorctl, for people.
    environment.systemPackages = [ cfg.supervisor ];

    users.users.${user} = {
      isSystemUser = true;
      group = user;
    };
    users.groups.${user} = { };

    systemd.services.supervisord = {
      description = "supervisord, which keeps gunicorn and its socket up";
      documentation = [ "https://supervisord.org/" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # nginx answers 503 without it, so the order is a courtesy.
      before = [ "nginx.service" ];

      reloadTriggers = [
        cfg.source
        cfg.python
        cfg.gunicornConfig
        cfg.supervisorConfig
      ]
      ++ lib.concatMap (name: [
        top.apps.${name}.source
        (pythonOf name)
        (furtherConfig name)
      ]) known;
      stopIfChanged = false;
      unitConfig = import ./unit.nix;

      serviceConfig = import ./hardening.nix lib (
        {
          Type = "exec";
          ExecStart = utils.escapeSystemdExecArgs [
            (lib.getExe' cfg.supervisor "supervisord")
            "--nodaemon"
            "--configuration=${supervisorConfig}"
            "--pidfile=/run/supervisor/supervisord.pid"
          ];
          ExecStartPre = [
            (import ./room.nix { inherit lib pkgs; })
            (lib.getExe remember)
          ]
          ++ passwords;
          ExecReload = passwords ++ [ (lib.getExe reload) ];
          # TERM to supervisord only, which drains the node and then ends one instance of gunicorn after
          # the other, gracefully; KILL to what is left, so that no gunicorn outlives a supervisord
          # that was killed.
          KillMode = "mixed";
          TimeoutStopSec = toEnd;
          # Of a reload, too: each instance may take its time to end its requests.
          TimeoutStartSec = "15min";
          Restart = "always";
          RestartSec = "1s";

          User = user;
          Group = user;
          SupplementaryGroups = [ top.group ];
          RuntimeDirectory = "supervisor";
          RuntimeDirectoryMode = "0750";
          LogsDirectory = [
            "gunicorn"
            "supervisor"
          ];
          LogsDirectoryMode = "0750";
          ReadWritePaths = [ "-/run/gen-topology" ];

          CapabilityBoundingSet = "";
          # No MemoryDenyWriteExecute: the app is yours, and some packages of Python need it.
          ProtectProc = "invisible";
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX"
          ];
          SystemCallFilter = [
            "@system-service"
            "~@privileged"
            # supervisord and gunicorn give their sockets to their owner, who has them already.
            "@chown"
          ];
        }
        // lib.optionalAttrs (cfg.environmentFile != null) { EnvironmentFile = cfg.environmentFile; }
      );
    };
  };
}
