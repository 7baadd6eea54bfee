# What the stack's services have in their `[Unit]`.
{
  # They start again for as long as it takes.
  StartLimitIntervalSec = 0;
  # `gen-topology deploy` puts it on a node that leaves the stack: booted later, it must not
  # come back with files of then, least of all with the virtual IP.
  ConditionPathExists = "!/var/lib/gen-topology/away";
}
