# NixOS with an address, and nothing of the stack.
{
  networking = {
    useNetworkd = true;
    useDHCP = false;
  };
}
