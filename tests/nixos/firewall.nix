# Who may reach what: what the topology needs and nothing else. A stranger reaches the virtual IP.
_: {
  name = "firewall";

  script = ''
    wait_for_the_stack()
    wait_for_virtual_ip(node_1)
    # The visitor becomes a stranger. Answers find their way to it: refused is refused by the
    # firewall, not by a missing route.
    for node in [node_1, node_2, node_3, node_4, node_5]:
        node.succeed("ip route add 192.0.2.0/24 dev eth0")
    client.succeed(
        "systemctl stop systemd-networkd.socket systemd-networkd",
        "ip address flush dev eth0",
        "ip address add 192.0.2.7/24 dev eth0",
        "ip route add 10.20.0.0/24 dev eth0",
    )

    with subtest("visitors from anywhere reach the virtual IP"):
        client.succeed(f"{ANSWER}/")

    with subtest("nodes reach what they need"):
        node_1.succeed("curl --fail --silent --max-time 3 http://10.20.0.64:80/healthz")
        node_1.succeed("curl --silent --max-time 3 http://10.20.0.17:8404/alive")
        node_2.succeed("timeout 3 bash -c ': > /dev/tcp/10.20.0.32/27017'")

    with subtest("nodes do not reach what they do not need"):
        for node, closed in [
            (node_1, "10.20.0.32/27017"),
            (node_2, "10.20.0.16/8404"),
            (node_2, "10.20.0.65/80"),
            (node_3, "10.20.0.64/80"),
        ]:
            node.fail(f"timeout 3 bash -c ': > /dev/tcp/{closed}'")

    with subtest("strangers do not"):
        for closed in ["10.20.0.64/80", "10.20.0.32/27017", "10.20.0.16/8404", "10.20.0.17/8404"]:
            client.fail(f"timeout 3 bash -c ': > /dev/tcp/{closed}'")

    with subtest("and it is the firewall that keeps them out"):
        node_2.succeed("systemctl stop gen-topology-firewall")
        client.succeed("timeout 3 bash -c ': > /dev/tcp/10.20.0.64/80'")

    with subtest("load balancers hear each other: only one has the virtual IP"):
        assert has_virtual_ip(node_1)
        assert not has_virtual_ip(node_5)
  '';
}
