# The node's address, and its firewall: the rendered file, loaded byte for byte.
#
# Not by networking.nftables: its reload closes at once what a node that leaves still needs,
# and may flush the table with which load balancers hand open connections over.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.gen-topology;
  inherit (cfg) facts;

  rules = "gen-topology/firewall.nft";
  own = "gen-topology/firewall.d/own.nft";
  ownFile = pkgs.writeText "own.nft" cfg.firewall.extraRules;
  load = "${lib.getExe cfg.package} node load-firewall";
  hasRules = cfg.firewall.file != null;
  ssh = config.services.openssh;
in
{
  options.services.gen-topology = {
    gateway = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "10.20.0.1";
      description = "Where packets to other networks go; null where something else says so.";
    };

    firewall = {
      file = lib.mkOption {
        type = lib.types.nullOr lib.types.path;
        default = if facts.files ? "etc/${rules}" then cfg.files + "/${rules}" else null;
        defaultText = lib.literalExpression ''config.services.gen-topology.files + "/gen-topology/firewall.nft"'';
        description = "The firewall's rules; null leaves who is let in to networking.firewall.";
      };

      extraRules = lib.mkOption {
        type = lib.types.lines;
        default = "";
        example = "ip saddr 192.0.2.7 tcp dport 9100 accept";
        description = ''
          What else is let in, as rules of an nftables chain whose policy is `drop`. What the stack
          needs is in the rendered file, and who administers it is `network.administration` of the topology.
        '';
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = lib.mkIf hasRules [
      {
        assertion = !ssh.enable || lib.elem 22 ssh.ports || cfg.firewall.extraRules != "";
        message = "services.gen-topology: the firewall of ${facts.name} lets ssh in at port 22, where its sshd does not listen; say who may come to the other port in services.gen-topology.firewall.extraRules, such as \"ip saddr @administration tcp dport ${toString (lib.head ssh.ports)} accept\".";
      }
      {
        # What one table accepts another can still drop, and the stack would be cut off.
        assertion = !config.networking.firewall.enable;
        message = "services.gen-topology: ${facts.name} has the firewall that `gen-topology generate` wrote; turn networking.firewall off, and write what it let in to services.gen-topology.firewall.extraRules.";
      }
    ];

    environment.etc = lib.mkIf hasRules {
      ${rules}.source = cfg.firewall.file;
      ${own}.source = ownFile;
    };

    # A deploy asks nodes to let others in that join, by ssh (`node open-firewall`).
    environment.systemPackages = lib.mkIf hasRules [ pkgs.nftables ];

    systemd.services.gen-topology-firewall = lib.mkIf hasRules {
      description = "Firewall of this node of the stack";
      documentation = [ "man:nft(8)" ];
      wantedBy = [ "sysinit.target" ];
      # Before there is an address to reach.
      wants = [ "network-pre.target" ];
      after = [ "systemd-modules-load.service" ];
      before = [
        "network-pre.target"
        "shutdown.target"
      ];
      conflicts = [ "shutdown.target" ];
      unitConfig.DefaultDependencies = false;
      path = [ pkgs.nftables ];
      # A reload leaves no moment without rules, and what is open goes on.
      reloadIfChanged = true;
      reloadTriggers = [
        cfg.firewall.file
        ownFile
      ];
      serviceConfig = import ./hardening.nix lib {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = load;
        ExecReload = load;
        # A machine that is no node any more lets its other rules decide.
        ExecStop = "${lib.getExe pkgs.nftables} delete table inet gen_topology_firewall";
        CapabilityBoundingSet = [ "CAP_NET_ADMIN" ];
        # It comes before /tmp does.
        PrivateTmp = false;
        RestrictAddressFamilies = [
          "AF_NETLINK"
          "AF_UNIX"
        ];
        SystemCallFilter = [ "@system-service" ];
      };
    };

    networking = {
      # Two firewalls: a packet would have to please both.
      firewall.enable = lib.mkIf hasRules (lib.mkDefault false);

      hostName = lib.mkDefault facts.name;

      # One node, one interface, one address that never changes. networkd makes
      # network-online.target mean that the address is there, which the scripted
      # back end does not.
      useNetworkd = lib.mkDefault true;
      useDHCP = lib.mkDefault false;
      # The topology says eth0 unless told otherwise; keep the kernel's name for it.
      usePredictableInterfaceNames = lib.mkIf (lib.hasPrefix "eth" facts.interface) (lib.mkDefault false);
      interfaces.${facts.interface}.ipv4.addresses = [
        {
          inherit (facts) address;
          prefixLength = facts.prefix_length;
        }
      ];
      defaultGateway = lib.mkIf (cfg.gateway != null) {
        address = cfg.gateway;
        inherit (facts) interface;
      };
      hosts.${facts.address} = [ facts.name ];
    };
  };
}
