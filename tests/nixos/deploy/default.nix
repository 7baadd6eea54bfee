# What the test `deploy` brings to its machines, which run the shipped stack and have sshd.
{
  lib,
  pkgs,
  stackOf,
  machine,
  client,
}:
let
  modules = [
    ../node.nix
    ./machine.nix
  ];

  before = stackOf {
    inherit modules;
    topology = ../../../topology.json;
    hosts = ../../../hosts;
  };

  # Another setting of haproxy, and other code of the app.
  changed = stackOf {
    inherit modules;
    topology = ../topologies/changed.json;
    hosts = ../hosts/changed;
    nodeModules = lib.genAttrs [ "node-2" "node-4" ] (_: otherCode);
  };

  # An app server more, and two databases.
  grown = stackOf {
    inherit modules;
    topology = ../topologies/grown.json;
    hosts = ../hosts/grown;
    nodeModules = lib.genAttrs [ "node-2" "node-4" "node-6" ] (_: otherCode);
  };

  otherCode = [
    {
      services.gen-topology.app.source = pkgs.runCommandLocal "app" { } ''
        cp -r ${../../../app} "$out"
        chmod -R u+w "$out"
        sed -i 's/^__version__ = .*/__version__ = "2.0.0"/' "$out/app.py"
      '';
    }
  ];

  nodesOf = stack: lib.attrNames stack.topology.nodes;

  # Machines that run NixOS and nothing of the stack.
  joining = lib.subtractLists (nodesOf before) (nodesOf grown);
  bare = name: {
    imports = [
      (machine grown name ./machine.nix)
      ./bare.nix
    ];
    networking.interfaces.eth0.ipv4.addresses = [
      {
        inherit (grown.facts.${name}) address;
        prefixLength = grown.facts.${name}.prefix_length;
      }
    ];
  };

  # Every machine of a stack; `other` is what a single one has on top.
  machines =
    stack: other:
    lib.genAttrs (nodesOf stack) (name: {
      imports = [
        (machine stack name stack.nixosModules.${name})
      ]
      ++ lib.optional (other ? ${name}) other.${name};
    })
    // {
      client = {
        imports = [
          (client before)
          ./client.nix
        ];
      };
    };

  # Does not activate.
  fails.systemd.services.flaw = {
    wantedBy = [ "multi-user.target" ];
    script = "exit 1";
    serviceConfig.Type = "oneshot";
  };

  # Activates, with a mistyped address: nobody reaches it any more.
  cuts.networking.interfaces.eth0.ipv4.addresses = lib.mkForce [
    {
      address = "10.20.0.165";
      prefixLength = 24;
    }
  ];

  of = stack: names: {
    inherit stack;
    nodes = names;
  };
in
{
  machines = {
    deploy = machines before { } // lib.genAttrs joining bare;
    changed = machines changed { };
    grown = machines grown { };
    fails = machines changed { node-4 = fails; };
    cuts = machines changed { node-4 = cuts; };
  };

  # By what the test calls them: of which machines above.
  systems = {
    changed = of "changed" (nodesOf changed);
    grown = of "grown" (nodesOf grown);
    fails = of "fails" [ "node-4" ];
    cuts = of "cuts" [ "node-4" ];
  };
}
