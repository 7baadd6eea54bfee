# Everything that runs on a node of a stack. A node turns on what it needs:
#
#   services.gen-topology = {
#     enable = true;
#     facts = lib.importJSON ./node.json;
#     files = ./etc;
#     haproxy.enable = true;
#     keepalived.enable = true;
#   };
#
# docs/nixos.md tells how to use these modules with and without the generator.
{
  imports = [
    ./app.nix
    ./base.nix
    ./haproxy.nix
    ./keepalived.nix
    ./mongodb.nix
    ./mongos.nix
    ./network.nix
    ./nginx.nix
    ./secrets.nix
    ./watch.nix
  ];
}
