# Three load balancers, two of them lost: the last one serves.
_: {
  name = "two-of-three-load-balancers-crash";

  script = ''
    wait_for_the_stack()
    wait_for_virtual_ip(lb_1)
    write("with-three")
    # The third has to be up before it can be the last.
    lb_3.wait_until_succeeds("systemctl is-active keepalived", timeout=120)

    crash(lb_1)
    wait_for_virtual_ip(lb_2, timeout=10)
    crash(lb_2)
    wait_for_virtual_ip(lb_3, timeout=10)

    client.wait_until_succeeds(f"{ANSWER}/", timeout=10)
    read("with-three")
    write("with-one")
  '';
}
