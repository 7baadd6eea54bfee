# The stack answers through the virtual IP: the page, and data that was written.
_: {
  name = "stack-answers";

  script = ''
    wait_for_the_stack()
    # Of the two, the one of higher priority.
    wait_for_virtual_ip(node_1)
    page = client.succeed(f"{ANSWER}/")
    assert "<html" in page.lower(), page
    write("first")
    read("first")
    # Exactly one load balancer has the virtual IP.
    assert not has_virtual_ip(node_5)
  '';
}
