# A root file system and a boot loader, so that a configuration without any is whole.
# Weaker than `mkDefault`: whatever an image, a virtual machine or you say wins.
{ lib, ... }:
let
  unlessSaid = lib.mkOverride 1400;
in
{
  fileSystems."/" = {
    device = unlessSaid "/dev/disk/by-label/nixos";
    fsType = unlessSaid "ext4";
  };

  boot.loader.grub.device = unlessSaid "/dev/vda";

  # In VirtualBox the first card, which is the node's interface, is on the stack's own
  # network; NAT, the default there, would keep nodes from seeing each other.
  image.modules.virtualbox.virtualbox.params = {
    nic1 = "intnet";
    intnet1 = "gen-topology";
    nic2 = "nat";
    nictype2 = "virtio";
  };

  system.stateVersion = unlessSaid "26.05";
}
