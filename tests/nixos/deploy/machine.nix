# A machine that can be deployed to.
{ lib, ... }:
{
  services.openssh.enable = true;

  # Systems change here, which machines of other tests don't.
  system.switch.enable = true;

  # Each has a store of its own: what arrives is written there, and not where all machines see it.
  virtualisation.systemd-nspawn.options = [ "--overlay=/nix/store::/nix/store" ];

  # Without a cache to ask, and nobody who would be a builder.
  nix.settings.substituters = lib.mkForce [ ];
}
