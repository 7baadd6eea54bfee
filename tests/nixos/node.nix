# What every machine of a test has on top of its host.
{ pkgs, ... }:
{
  # Tests ask from the nodes, too.
  environment.systemPackages = [ pkgs.curl ];
}
