# Keepalived on a load balancer: who has the virtual IP.
#
# Not upstream's services.keepalived. That one
# - writes the file from options that know neither `track_file` nor
#   `unicast_fault_no_peer`, so it could not carry our bytes;
# - starts keepalived from a timer, and a keepalived that was stopped stays down;
# - restarts on every change, which moves the virtual IP; ours reloads;
# - gives scripts a user that it does not create, so that they are dropped silently.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.keepalived;
  facts = top.facts.load_balancer;
  inherit (top.facts) interface;
in
{
  options.services.gen-topology.keepalived = {
    enable = lib.mkEnableOption "keepalived, which moves the virtual IP to a load balancer that is well";

    package = lib.mkPackageOption pkgs "keepalived" { };

    configFile = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/keepalived/keepalived.conf";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/keepalived/keepalived.conf"'';
      description = "Keepalived's configuration.";
    };
  };

  config = lib.mkIf (top.enable && cfg.enable) {
    assertions = [
      {
        assertion = facts != null;
        message = "services.gen-topology.keepalived: the facts of ${top.facts.name} have no `load_balancer`; is it a load balancer in the topology file?";
      }
      {
        assertion = !config.services.keepalived.enable;
        message = "services.gen-topology.keepalived and services.keepalived can't both run on ${top.facts.name}; turn one off.";
      }
    ];

    environment.etc."keepalived/keepalived.conf".source = cfg.configFile;

    # networkd takes addresses away that it did not put there when it starts, the
    # virtual IP among them (systemd/systemd#12050, acassen/keepalived#1385).
    systemd.network.networks."40-${interface}".networkConfig.KeepConfiguration = "static";

    systemd.services.keepalived = {
      description = "Keepalived, draining before the virtual IP moves on purpose";
      documentation = [ "man:keepalived.conf(5)" ];
      # Of its own, not through a timer: so a keepalived that was stopped comes back with the next switch.
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # After haproxy when starting, so before it when stopping: the virtual IP leaves
      # first. No `requires`: keepalived has to outlive haproxy to hand the address over.
      after = [
        "haproxy.service"
        "network-online.target"
      ];

      # Its supervisor hands open connections over when the virtual IP moves.
      path = [
        pkgs.iproute2
        pkgs.nftables
      ];

      reloadTriggers = [ cfg.configFile ];
      # What the supervisor has read when it started; the rest of the facts is not its matter.
      restartTriggers = [
        top.facts.virtual_ip
        facts.internal_port
        facts.drain_time_ms
      ];
      stopIfChanged = false;
      unitConfig = import ./unit.nix;

      serviceConfig = import ./hardening.nix lib {
        Type = "exec";
        # No `--log-console`: its syslog is in the journal already, and each line would be there twice.
        ExecStart = utils.escapeSystemdExecArgs [
          (lib.getExe top.package)
          "node"
          "run"
          "keepalived"
          "--"
          (lib.getExe cfg.package)
          "--dont-fork"
          "--vrrp"
          "--use-file=/etc/keepalived/keepalived.conf"
          "--pid=/run/keepalived/keepalived.pid"
          "--vrrp_pid=/run/keepalived/vrrp.pid"
        ];
        # A mistake is found by keepalived itself (reload_check_config) and changes nothing.
        ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
        KillMode = "mixed";
        # Draining comes first.
        TimeoutStopSec = facts.drain_time_ms / 1000 + 10;
        Restart = "always";
        # A killed keepalived leaves the virtual IP behind and takes it away when it is
        # back. By then a neighbour has to have it: three adverts and a skew.
        RestartSec = "500ms";

        # The state file and the lock of haproxy's supervisor, which it watches.
        SupplementaryGroups = [ top.group ];
        RuntimeDirectory = "keepalived";
        RuntimeDirectoryMode = "0755";

        # Root, but with no more of root's powers than these: addresses and nftables, raw
        # sockets for VRRP and ARP, a real-time priority, locked memory, and becoming the
        # (same) user of a script.
        CapabilityBoundingSet = [
          "CAP_IPC_LOCK"
          "CAP_NET_ADMIN"
          "CAP_NET_BIND_SERVICE"
          "CAP_NET_RAW"
          "CAP_SETGID"
          "CAP_SETUID"
          "CAP_SYS_NICE"
          "CAP_SYS_RESOURCE"
        ];
        MemoryDenyWriteExecute = true;
        # keepalived sets arp_ignore and the like below /proc/sys/net, its supervisor how
        # connections are tracked.
        ProtectKernelTunables = false;
        # All of /run: what is wrong with a new configuration is written to /run/keepalived-check.log.
        ReadWritePaths = [ "/run" ];
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_PACKET"
          "AF_UNIX"
        ];
        # Adverts must not wait behind other processes.
        RestrictRealtime = false;
        SystemCallFilter = [ "@system-service" ];
      };
    };
  };
}
