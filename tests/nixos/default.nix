# VM tests, one behaviour each. Their machines come from topology files and what was
# rendered from them, as any other machine of a stack does.
{
  lib,
  pkgs,
  mkStack,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;

  stackOf =
    files:
    mkStack (
      {
        inherit system;
        modules = [ ./node.nix ];
      }
      // files
    );

  stacks = lib.mapAttrs (_: stackOf) {
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
    # 2 load balancers that ask for a certificate, 1 app server, no database.
    acme = {
      topology = ./topologies/acme.json;
      hosts = ./hosts/acme;
    };
    # 1 load balancer, 2 app servers with two applications, no database.
    apps = {
      topology = ./topologies/apps.json;
      hosts = ./hosts/apps;
    };
    # 2 load balancers with HTTPS, 1 app server, no database.
    https = {
      topology = ./topologies/https.json;
      hosts = ./hosts/https;
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

  # The stack's nodes as machines of a test, of either kind: the stack's own interface name and
  # address, and none that the driver makes up. Options below `virtualisation` exist here only.
  machine =
    stack: name: module:
    { ... }:
    {
      imports = [ module ];
      virtualisation.interfaces.${stack.facts.${name}.interface} = {
        vlan = 1;
        assignIP = false;
      };
    };

  # Somebody who visits: on the same network, with an address that no node has.
  client = stack: {
    virtualisation.interfaces.eth0 = {
      vlan = 1;
      assignIP = false;
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
      pkgs.iproute2
      pkgs.jq
      pkgs.openssl
    ]
    ++ lib.optional ((stack.topology.load_balancer.tls or { }) ? acme) pkgs.pebble;
  };

  machines = stack: lib.mapAttrs (machine stack) stack.nixosModules // { client = client stack; };

  # QEMU machines.
  vm =
    stack: name: module:
    { lib, ... }:
    {
      imports = [ module ];
      virtualisation = {
        # mongod takes its cache and more; below 1.5 GiB it dies under load.
        memorySize = if stack.facts.${name}.tier or "" == "database" then 2048 else 1024;
        # Without the driver's user-mode card, which would be called eth0, too.
        qemu.networkingOptions = lib.mkForce [ ];
      };
    };

  # Containers of systemd-nspawn.
  container = _: module: {
    imports = [ module ];
    # What containers have otherwise, and systemd-resolved, which comes with networkd, refuses.
    networking.useHostResolvConf = false;
  };

  # Machines that are deployed to, and the systems that they get.
  deploy = import ./deploy {
    inherit
      client
      lib
      machine
      pkgs
      stackOf
      ;
  };

  # A test is a function of its stack to a module of the test driver, less the machines: its script is
  # the same with either kind.
  testOf =
    kind: stackName: path:
    let
      stack = stacks.${stackName};
      test = import path { inherit lib stack; };
    in
    pkgs.testers.runNixOSTest {
      imports = [
        (removeAttrs test [ "script" ])
        (kind stack)
      ];
      node.specialArgs = stack.specialArgs;
      globalTimeout = 1800;
      testScript = prelude stack + "\n" + test.script;
    };

  inQemu = stack: { nodes = lib.mapAttrs (vm stack) (machines stack); };

  inContainers = stack: {
    containers = lib.mapAttrs container (machines stack);
    # The driver asks for it unless told otherwise, even without a virtual machine.
    requiredFeatures.kvm = false;
  };

  # What each test runs on.
  tests = {
    acme = "acme";
    app-reloads = "shipped";
    app-server-crashes = "shipped";
    apps = "apps";
    database-primary-crashes = "ha";
    firewall = "shipped";
    gunicorn-dies = "shipped";
    haproxy-dies = "shipped";
    https = "https";
    load-balancer-crashes = "shipped";
    sessions-are-spread = "shipped";
    stack-answers = "shipped";
    two-of-three-load-balancers-crash = "three";
  };

  each =
    prefix: kind:
    lib.mapAttrs' (
      name: stack: lib.nameValuePair "${prefix}-${name}" (testOf kind stack (./. + "/${name}.nix"))
    ) tests;
in
{
  inherit stacks;

  vms = each "vm" inQemu;
  # The same in systemd-nspawn containers, for machines without KVM.
  containers = each "container" inContainers;

  # For scripts/boot-hosts, which runs all tests of a stack on the same machines: which test runs on
  # which stack, its script, and the other systems that it brings to the machines.
  scripts =
    lib.mapAttrs (name: stackName: {
      stack = stackName;
      systems = { };
      text =
        let
          stack = stacks.${stackName};
        in
        prelude stack + "\n" + (import (./. + "/${name}.nix") { inherit lib stack; }).script;
    }) tests
    // {
      deploy = {
        stack = "deploy";
        inherit (deploy) systems;
        text = prelude stacks.shipped + "\n" + builtins.readFile ./deploy.py;
      };
    };
  machinesOf =
    lib.mapAttrs (
      _: stack:
      pkgs.testers.runNixOSTest {
        name = "machines";
        imports = [ (inContainers stack) ];
        node.specialArgs = stack.specialArgs;
        testScript = "";
      }
    ) stacks
    // lib.mapAttrs (
      _: machines:
      pkgs.testers.runNixOSTest {
        name = "machines";
        containers = lib.mapAttrs container machines;
        requiredFeatures.kvm = false;
        node.specialArgs = stacks.shipped.specialArgs;
        testScript = "";
      }
    ) deploy.machines;
}
