# An app server is powered off: visitors get answers from the other. It comes back and gets requests again.
_: {
  name = "app-server-crashes";

  script = ''
    wait_for_the_stack()


    def both_serve(_last):
        return {served_by() for _ in range(10)} == {"node-2", "node-4"}


    # nginx listens before the app does.
    retry(both_serve, 120)

    with subtest("the other one serves"):
        crash(node_2)
        # Each of these is retried by haproxy where it has to be: none may fail.
        for number in range(20):
            client.succeed(f"{ANSWER}/")
        assert {served_by() for _ in range(10)} == {"node-4"}
        write("without-node-2")

    with subtest("it gets requests again"):
        node_2.start()


        def serves_again(_last):
            return "node-2" in {served_by() for _ in range(10)}


        retry(serves_again, 300)
        read("without-node-2")
  '';
}
