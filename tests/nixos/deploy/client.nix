# Somebody who deploys: the program, ssh, Nix, and a project.
{ pkgs, ... }:
{
  environment = {
    systemPackages = [
      (pkgs.callPackage ../../../package.nix { })
      pkgs.openssh
      pkgs.nix
    ];
    etc = {
      "project/topology.json".source = ../../../topology.json;
      "project/changed.json".source = ../topologies/changed.json;
      "project/grown.json".source = ../topologies/grown.json;
      "project/app".source = ../../../app;
    };
  };
}
