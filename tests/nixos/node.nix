# What every machine of a test has on top of its host.
{ lib, pkgs, ... }:
let
  # The same on all machines of a test, and no secret of anybody.
  known = {
    database-key = "0123456789abcdef";
    application = "application-1:known";
    monitoring = "monitoring-1:known";
    administration = "administration-1:known";
  };
in
{
  # Tests ask from the nodes, too.
  environment.systemPackages = [ pkgs.curl ];

  services.gen-topology.secrets.directory = "/etc/known-to-everybody";
  environment.etc = lib.mapAttrs' (
    name: text: lib.nameValuePair "known-to-everybody/${name}" { source = pkgs.writeText name text; }
  ) known;
}
