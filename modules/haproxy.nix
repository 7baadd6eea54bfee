# haproxy on a load balancer.
#
# Not upstream's services.haproxy. That one
# - puts a `global` section of its own before the text, so /etc would not hold our bytes;
# - runs haproxy itself, while ours has to run below `gen-topology node run`, which
#   tells keepalived the moment haproxy ends and drains a neighbour before taking over;
# - has no capability for `bind … transparent`;
# - does not reload when only the configuration has changed.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.haproxy;
  facts = top.facts.load_balancer;

  haproxy = lib.getExe cfg.package;
  configFile = "/etc/haproxy/haproxy.cfg";
  state = "/run/gen-topology/haproxy.state";
  alive = "/run/gen-topology/haproxy.alive";

  tls = if facts == null then null else facts.tls or null;
  acme = if tls == null then null else tls.acme or null;
  # What was brought to this machine. A certificate of ACME is not: the machine gets it by itself.
  brought =
    (
      if acme == null then
        tls.certificates
      else
        [
          "acme-account.key"
          "acme.key"
        ]
        ++ lib.optional (acme ? trust) acme.trust
    )
    ++ [ "ticket-keys" ];
  # Each file is a credential of the service that reads it: the originals stay root's.
  credentials = map (file: "${file}:${top.secrets.certificates}/${file}") brought;
  # Where certificates of ACME are kept; haproxy and what renews them share it, and one user.
  acmeState = lib.optionalAttrs (acme != null) {
    StateDirectory = "gen-topology-acme";
    StateDirectoryMode = "0700";
  };
  loadCertificates = "${lib.getExe top.package} node load-certificates --from %d";
in
{
  options.services.gen-topology.haproxy = {
    enable = lib.mkEnableOption "haproxy, which spreads requests over the app servers";

    package = lib.mkPackageOption pkgs "haproxy" { };

    configFile = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/haproxy/haproxy.cfg";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/haproxy/haproxy.cfg"'';
      description = "haproxy's configuration.";
    };

    drainMap = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/haproxy/drain.map";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/haproxy/drain.map"'';
      description = "Map in which haproxy keeps until when it drains; it is changed in memory only.";
    };
  };

  config = lib.mkIf (top.enable && cfg.enable) {
    assertions = [
      {
        assertion = facts != null;
        message = "services.gen-topology.haproxy: the facts of ${top.facts.name} have no `load_balancer`; is it a load balancer in the topology file?";
      }
      {
        assertion = !config.services.haproxy.enable;
        message = "services.gen-topology.haproxy and services.haproxy can't both run on ${top.facts.name}; turn one off.";
      }
    ];

    environment.etc = {
      "haproxy/haproxy.cfg".source = cfg.configFile;
      "haproxy/drain.map".source = cfg.drainMap;
    }
    // lib.optionalAttrs (tls != null) {
      "haproxy/certificates.list".source = top.files + "/haproxy/certificates.list";
    };

    users.users.haproxy = {
      isSystemUser = true;
      group = "haproxy";
    };
    users.groups.haproxy = { };

    # Before haproxy has said anything it is not well. keepalived would make the file
    # itself, but as root, and haproxy's supervisor could not write to it. keepalived's
    # supervisor writes to it, too: root, without root's power over files of others.
    systemd.tmpfiles.settings."10-gen-topology" = {
      ${state}.f = {
        mode = "0664";
        user = "haproxy";
        inherit (top) group;
        argument = "-254";
      };
      # Locked by haproxy's supervisor while it lives; keepalived's waits for the lock, and nobody else may.
      ${alive}.f = {
        mode = "0640";
        user = "haproxy";
        inherit (top) group;
      };
    }
    // lib.optionalAttrs (tls != null) {
      # Where haproxy reads its certificates; `node load-certificates` puts there what it has judged.
      "/run/gen-topology/secrets/certificates".d = {
        mode = "0700";
        user = "haproxy";
        group = "haproxy";
      };
    };

    systemd.services.haproxy = {
      description = "haproxy, supervised for keepalived";
      documentation = [ "man:haproxy(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # Its own address has to be there for the internal listener. The virtual IP has
      # not: that listener is `transparent`. net.ipv4.ip_nonlocal_bind must stay 0, or
      # every load balancer would believe that it has the virtual IP.
      after = [ "network-online.target" ];

      # Changes only what X-Reload-Triggers says: switch-to-configuration reloads then,
      # and restarts when anything else of the unit has changed, such as haproxy itself.
      reloadTriggers = [
        cfg.configFile
        cfg.drainMap
      ];
      # One step instead of stop, activate, start: the node is away for less long.
      stopIfChanged = false;
      unitConfig =
        let
          always = import ./unit.nix;
        in
        if tls == null then
          always
        else
          # Without a file that it needs nothing is tried: systemd says once which one is missing, and
          # haproxy.path starts the unit when it has come.
          always
          // {
            ConditionPathExists = [
              always.ConditionPathExists
            ]
            ++ map (file: "${top.secrets.certificates}/${file}") brought;
          };

      serviceConfig = import ./hardening.nix lib (
        {
          # Not `notify`: haproxy would make its master the main process, and systemd
          # would talk past our supervisor. keepalived's supervisor waits for haproxy's
          # first answer instead.
          Type = "exec";
          ExecStart = utils.escapeSystemdExecArgs [
            (lib.getExe top.package)
            "node"
            "run"
            "haproxy"
            "--"
            haproxy
            "-W"
            "-db"
            # Its log has each warning already; without this stderr has it once more.
            "-q"
            "-f"
            configFile
          ];
          ExecReload = [
            # Started the way the daemon is, as haproxy's authors ask for. A mistake ends
            # the reload here, visibly, and the old configuration goes on.
            "${haproxy} -W -c -q -f ${configFile}"
            # The supervisor passes it on as USR2, which lets no connection drop.
            "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID"
          ];
          # The supervisor writes this itself, and Keepalived's when it was killed; this is for the case
          # that neither runs.
          ExecStopPost = ''${pkgs.runtimeShell} -c "echo -254 > ${state}"'';
          # TERM goes to the supervisor only, which lets requests at hand be answered.
          KillMode = "mixed";
          TimeoutStopSec = 20;
          Restart = "always";
          RestartSec = "100ms";
          SuccessExitStatus = 143;

          User = "haproxy";
          Group = "haproxy";
          SupplementaryGroups = [ top.group ];
          RuntimeDirectory = "haproxy";
          RuntimeDirectoryMode = "0750";
          ExecStartPre = [
            (import ./room.nix { inherit lib pkgs; })
          ]
          # What is not fit to be served is refused, and what was served before goes on.
          ++ lib.optional (tls != null) "-${loadCertificates} --only-files";
          LoadCredential = if tls == null then [ ] else credentials;
          ReadWritePaths = [ "-/run/gen-topology" ];

          # Port 80, and IP_TRANSPARENT, for which the kernel wants NET_RAW or NET_ADMIN: the
          # lesser of the two. Without either haproxy starts all the same, with IP_FREEBIND,
          # and open connections end when the virtual IP moves.
          AmbientCapabilities = [
            "CAP_NET_BIND_SERVICE"
            "CAP_NET_RAW"
          ];
          CapabilityBoundingSet = [
            "CAP_NET_BIND_SERVICE"
            "CAP_NET_RAW"
          ];
          # haproxy compiles the expression that challenges of ACME are known by, and does not start where it may not.
          MemoryDenyWriteExecute = acme == null;
          ProtectProc = "invisible";
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX"
          ];
          SystemCallFilter = [
            "@system-service"
            "~@privileged"
          ];
        }
        // acmeState
      );
    };

    systemd.paths.haproxy = lib.mkIf (tls != null) {
      description = "Certificates that haproxy waits for";
      wantedBy = [ "multi-user.target" ];
      pathConfig.PathChanged = map (file: "${top.secrets.certificates}/${file}") brought;
    };

    # A renewed certificate is loaded as soon as it is in its place; connections go on.
    systemd.paths.gen-topology-certificates = lib.mkIf (tls != null) {
      description = "Renewed certificates";
      wantedBy = [ "multi-user.target" ];
      pathConfig.PathChanged = map (file: "${top.secrets.certificates}/${file}") brought;
    };
    systemd.services.gen-topology-certificates = lib.mkIf (tls != null) {
      description = "Loading renewed certificates into haproxy";
      after = [ "haproxy.service" ];
      requisite = [ "haproxy.service" ];
      serviceConfig = import ./hardening.nix lib (
        {
          Type = "oneshot";
          ExecStart = loadCertificates;
          LoadCredential = credentials;
          User = "haproxy";
          Group = "haproxy";
          ReadWritePaths = [ "/run/gen-topology" ];
          RestrictAddressFamilies = [ "AF_UNIX" ];
        }
        // acmeState
      );
    };

    # Asks for a certificate, and for another before it expires.
    systemd.services.renew-certificates = lib.mkIf (acme != null) {
      description = "Certificates by ACME";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "haproxy.service"
        "network-online.target"
      ];
      stopIfChanged = false;
      unitConfig = import ./unit.nix;
      serviceConfig = import ./hardening.nix lib (
        {
          Type = "exec";
          ExecStart = utils.escapeSystemdExecArgs [
            (lib.getExe top.package)
            "node"
            "renew-certificates"
          ];
          Restart = "always";
          RestartSec = "5s";
          User = "haproxy";
          Group = "haproxy";
          MemoryDenyWriteExecute = true;
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX"
          ];
          SystemCallFilter = [
            "@system-service"
            "~@privileged"
          ];
        }
        // acmeState
      );
    };
  };
}
