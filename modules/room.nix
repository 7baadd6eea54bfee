# What a service runs first, as root, that shares /run/gen-topology with others: tmpfiles makes it
# when the machine boots, but where that failed each start would fail, too, without a word on
# why. Not `RuntimeDirectory`, which would give it to one user of several.
{ lib, pkgs }:
"+${lib.getExe' pkgs.systemd "systemd-tmpfiles"} --create /etc/tmpfiles.d/10-gen-topology.conf"
