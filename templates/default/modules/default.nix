# What all nodes have in common. The generated hosts/<node>/default.nix import this.
{ gen-topology, ... }:
{
  imports = [ gen-topology.nixosModules.default ];

  # For example:
  # services.openssh.enable = true;
  # users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 …" ];
}
