# haproxy ends, is killed, or is killed together with its supervisor: each time the
# virtual IP moves. A reload moves nothing and breaks no request.
_: {
  name = "haproxy-dies";

  script = ''
    wait_for_the_stack()
    wait_for_virtual_ip(node_1)
    node_5.wait_until_succeeds("systemctl is-active keepalived haproxy", timeout=60)

    with subtest("a reload moves nothing"):
        main = node_1.succeed("systemctl show --property MainPID --value haproxy").strip()
        node_1.succeed("systemctl reload haproxy")
        for number in range(20):
            client.succeed(f"{ANSWER}/")
        assert has_virtual_ip(node_1)
        assert main == node_1.succeed("systemctl show --property MainPID --value haproxy").strip()

    with subtest("stopped on purpose"):
        node_1.succeed("systemctl stop haproxy")
        wait_for_virtual_ip(node_5, timeout=10)
        client.succeed(f"{ANSWER}/")
        node_1.succeed("systemctl start haproxy")
        wait_for_virtual_ip(node_1, timeout=30)

    for victim, kill in [
        ("haproxy", "pkill -KILL --exact haproxy"),
        ("its supervisor", "systemctl kill --kill-whom=main --signal=KILL haproxy"),
        # Nothing of the unit is left that could say so; Keepalived's supervisor does.
        ("its whole unit", "systemctl kill --signal=KILL haproxy"),
    ]:
        with subtest(f"{victim} killed"):
            # haproxy is back at once, and node-1 takes the virtual IP back some seconds later.
            gap_of(f"{victim} killed", lambda kill=kill: node_1.succeed(kill))
            wait_for_virtual_ip(node_5, timeout=10)
            client.succeed(f"{ANSWER}/")
            wait_for_virtual_ip(node_1, timeout=30)

    write("after-all-that")
  '';
}
