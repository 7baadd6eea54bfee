# What a service runs first, as root, that shares /run/gen-topology with others: tmpfiles makes
# it when the machine boots, but where that failed each start would fail, too, without a word
# on why. Not `RuntimeDirectory`, which would give it to one user of several.
{
  lib,
  pkgs,
  top,
}:
"+${lib.getExe' pkgs.coreutils "install"} -d -m 0775 -o root -g ${top.group} /run/gen-topology"
