# The preferred load balancer is powered off: the virtual IP moves, page and data
# stay. It comes back and takes the virtual IP back.
_: {
  name = "load-balancer-crashes";

  script = ''
    wait_for_the_stack()
    wait_for_virtual_ip(node_1)
    write("before")

    with subtest("the other takes over"):
        gap_of("load balancer powered off", lambda: crash(node_1))
        wait_for_virtual_ip(node_5, timeout=10)
        client.wait_until_succeeds(f"{ANSWER}/", timeout=10)
        read("before")
        write("without-node-1")

    with subtest("it takes the virtual IP back"):
        node_1.start()
        wait_for_virtual_ip(node_1, timeout=300)
        node_5.wait_until_fails("gen-topology node check keepalived", timeout=10)
        read("without-node-1")
        write("after")
  '';
}
