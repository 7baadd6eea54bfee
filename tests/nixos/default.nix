# VM tests, one behaviour each. Their machines come from topology files and what was
# rendered from them, as any other machine of a stack does.
{
  lib,
  pkgs,
  mkStack,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;

  stacks =
    lib.mapAttrs
      (
        _: files:
        mkStack (
          files
          // {
            inherit system;
            modules = [ ./node.nix ];
          }
        )
      )
      {
        # What this repository ships: 2 load balancers, 2 app servers, 1 database.
        shipped = {
          topology = ../../topology.json;
          hosts = ../../hosts;
        };
        # 2 load balancers, 2 app servers, 3 databases.
        ha = {
          topology = ../../examples/ha.json;
          hosts = ./hosts/ha;
        };
        # 3 load balancers.
        three = {
          topology = ./topologies/three.json;
          hosts = ./hosts/three;
        };
      };

  # What tests say about a stack, in Python. Type checkers and linters see it with each script.
  prelude =
    stack:
    let
      port = (lib.head (ofTier stack "load-balancer")).load_balancer.port;
    in
    ''
      VIRTUAL_IP = "${stack.topology.network.virtual_ip}"
      URL = f"http://{VIRTUAL_IP}:${toString port}"
    ''
    + builtins.readFile ./prelude.py;

  ofTier = stack: tier: lib.filter (node: node.tier == tier) (lib.attrValues stack.facts);

  # The stack's nodes as machines of a test. Options below `virtualisation` exist here only.
  machine =
    stack: name: module:
    { lib, ... }:
    {
      imports = [ module ];
      virtualisation = {
        # mongod takes its cache and more; below 1.5 GiB it dies under load.
        memorySize = if stack.facts.${name}.tier == "database" then 2048 else 1024;
        # The stack's own interface name and address, and none that the driver makes up.
        interfaces.${stack.facts.${name}.interface} = {
          vlan = 1;
          assignIP = false;
        };
        # Without the driver's user-mode card, which would be called eth0, too.
        qemu.networkingOptions = lib.mkForce [ ];
      };
    };

  # Somebody who visits: on the same network, with an address that no node has.
  client = stack: {
    virtualisation = {
      interfaces.eth0 = {
        vlan = 1;
        assignIP = false;
      };
      qemu.networkingOptions = lib.mkForce [ ];
    };
    networking = {
      useNetworkd = true;
      useDHCP = false;
      firewall.enable = false;
      interfaces.eth0.ipv4.addresses = [
        {
          address = "10.20.0.250";
          prefixLength = stack.facts.${lib.head (lib.attrNames stack.facts)}.prefix_length;
        }
      ];
    };
    environment.systemPackages = [
      pkgs.curl
      pkgs.jq
    ];
  };

  # A test is a function of its stack to a module of the test driver, less the nodes.
  vmTest =
    stackName: path:
    let
      stack = stacks.${stackName};
      test = import path { inherit lib stack; };
    in
    pkgs.testers.runNixOSTest {
      imports = [ (removeAttrs test [ "script" ]) ];
      node.specialArgs = stack.specialArgs;
      nodes = lib.mapAttrs (machine stack) stack.nixosModules // {
        client = client stack;
      };
      globalTimeout = 1800;
      testScript = prelude stack + "\n" + test.script;
    };
in
{
  inherit stacks;

  vms =
    lib.mapAttrs' (name: stack: lib.nameValuePair "vm-${name}" (vmTest stack (./. + "/${name}.nix")))
      {
        app-server-crashes = "shipped";
        database-primary-crashes = "ha";
        firewall = "shipped";
        gunicorn-dies = "shipped";
        haproxy-dies = "shipped";
        load-balancer-crashes = "shipped";
        sessions-are-spread = "shipped";
        stack-answers = "shipped";
        two-of-three-load-balancers-crash = "three";
      };

  # The load balancers' part once more in systemd-nspawn containers, for machines without KVM.
  containers.container-haproxy-dies = import ./container-haproxy-dies.nix {
    inherit lib pkgs;
    stack = stacks.shipped;
    prelude = prelude stacks.shipped;
  };
}
