# The load balancers alone, as systemd-nspawn containers: haproxy ends, and the virtual
# IP moves. No KVM is needed, but the settings of Nix that docs/nixos.md names. App
# servers and databases are left out: mongod can't run in Nix's build sandbox (its
# allocator reads /sys), and without a database the app is not ready.
{
  lib,
  pkgs,
  stack,
  prelude,
}:
let
  loadBalancers = lib.filterAttrs (
    name: _: stack.facts.${name}.tier == "load-balancer"
  ) stack.nixosModules;
in
pkgs.testers.runNixOSTest {
  name = "container-haproxy-dies";
  node.specialArgs = stack.specialArgs;
  globalTimeout = 600;
  # The driver asks for it unless told otherwise, even without a virtual machine.
  requiredFeatures.kvm = false;

  # What containers have otherwise, and systemd-resolved, which comes with networkd, refuses.
  defaults.networking.useHostResolvConf = false;

  containers =
    lib.mapAttrs (name: module: {
      imports = [ module ];
      virtualisation.interfaces.${stack.facts.${name}.interface} = {
        vlan = 1;
        assignIP = false;
      };
    }) loadBalancers
    // {
      client = {
        virtualisation.interfaces.eth0 = {
          vlan = 1;
          assignIP = false;
        };
        networking = {
          useNetworkd = true;
          useDHCP = false;
          firewall.enable = false;
          interfaces.eth0.ipv4.addresses = [
            {
              address = "10.20.0.250";
              prefixLength = 24;
            }
          ];
        };
        environment.systemPackages = [
          pkgs.curl
          pkgs.jq
        ];
      };
    };

  testScript = prelude + ''

    start_all()
    wait_for_virtual_ip(node_1, timeout=120)
    node_5.wait_until_succeeds("systemctl is-active keepalived haproxy", timeout=60)
    # No app server is there, so haproxy itself answers: 503.
    status = f"curl --silent --max-time 5 --output /dev/null --write-out '%{{http_code}}' {URL}/"
    assert client.succeed(status) == "503"

    node_1.succeed("systemctl stop haproxy")
    wait_for_virtual_ip(node_5, timeout=10)
    assert client.succeed(status) == "503"

    node_1.succeed("systemctl start haproxy")
    wait_for_virtual_ip(node_1, timeout=30)
  '';
}
