# The node's address, and who may connect to what.
#
# Inside the stack a source is any address of the stack's subnet: a list of peers on
# every node would change all of them whenever one is added. `firewall.sources`
# narrows it down or adds, say, a monitoring host.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.gen-topology;
  inherit (cfg) facts;
  inherit (cfg.firewall) sources;

  iptables =
    rule:
    map (
      source:
      "iptables -w -A nixos-fw -s ${source} -p ${rule.protocol}"
      + lib.optionalString (rule.port != null) " --dport ${toString rule.port}"
      + " -j nixos-fw-accept"
    ) sources;

  nftables =
    rule:
    "ip saddr { ${lib.concatStringsSep ", " sources} } "
    + (
      if rule.port == null then
        "ip protocol ${rule.protocol} accept"
      else
        "${rule.protocol} dport ${toString rule.port} accept"
    );

  lines = lib.concatMapStrings (line: line + "\n");
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
      sources = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ "${facts.address}/${toString facts.prefix_length}" ];
        defaultText = lib.literalMD "the subnet of the stack";
        example = [ "10.20.0.0/24" ];
        description = ''
          Networks, IPv4, that may reach what is not for visitors: nginx and MongoDB, VRRP and
          the load balancers' internal port.
        '';
      };

      rules = lib.mkOption {
        internal = true;
        default = [ ];
        description = "What {option}`services.gen-topology.firewall.sources` may reach; set by the other modules.";
        type = lib.types.listOf (
          lib.types.submodule {
            options = {
              protocol = lib.mkOption {
                type = lib.types.str;
                default = "tcp";
                description = "Name or number of the protocol.";
              };
              port = lib.mkOption {
                type = lib.types.nullOr lib.types.port;
                default = null;
                description = "Port, where the protocol has any.";
              };
            };
          }
        );
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        # Neither back end below would apply, and the stack would be cut off.
        assertion = !config.networking.firewall.enable || config.networking.firewall.backend != "firewalld";
        message = "services.gen-topology: the firewall of ${facts.name} is firewalld, for which there are no rules; use iptables or nftables, or turn networking.firewall off and write your own.";
      }
    ];

    networking = {
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

      # `extraCommands` together with nftables is an error in NixOS, and
      # `extraInputRules` is ignored without it: hence both, one at a time.
      firewall = lib.mkMerge [
        (lib.mkIf (config.networking.firewall.backend == "iptables") {
          extraCommands = lines (lib.concatMap iptables cfg.firewall.rules);
        })
        (lib.mkIf (config.networking.firewall.backend == "nftables") {
          extraInputRules = lines (map nftables cfg.firewall.rules);
        })
      ];
    };
  };
}
