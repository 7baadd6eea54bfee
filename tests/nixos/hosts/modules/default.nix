# What the hosts beside this directory import as ../../modules.
{
  imports = [ ../../../../modules ];
}
