# Different visitors reach different app servers.
_: {
  name = "sessions-are-spread";

  script = ''
    wait_for_the_stack()


    def both_serve(_last):
        # Each request is a connection of its own.
        return {served_by() for _ in range(20)} == {"node-2", "node-4"}


    # The second server may come up after the first has begun to answer.
    retry(both_serve, 120)
  '';
}
