# gunicorn is dead while nginx lives: noticed, and the node gets no more requests.
# Once gunicorn runs again it gets some.
_: {
  name = "gunicorn-dies";

  script = ''
    supervisorctl = "supervisorctl --configuration /etc/supervisor/supervisord.conf"
    wait_for_the_stack()
    node_2.wait_until_succeeds(f"{supervisorctl} status", timeout=120)
    node_4.wait_until_succeeds(f"{supervisorctl} status", timeout=120)

    with subtest("supervisord brings a killed gunicorn back"):
        before = node_2.succeed(f"{supervisorctl} pid gunicorn-0").strip()
        node_2.succeed(f"kill -KILL {before}")
        node_2.wait_until_succeeds(
            f"now=$({supervisorctl} pid gunicorn-0) && test $now -gt 0 && test $now -ne {before}",
            timeout=30,
        )

    with subtest("a node without gunicorn gets no requests"):
        node_2.succeed(f"{supervisorctl} stop gunicorn-0 gunicorn-1")
        node_2.succeed("systemctl is-active nginx")
        for number in range(20):
            client.succeed(f"{ANSWER}/")
        assert {served_by() for _ in range(10)} == {"node-4"}

    with subtest("and gets some once it has one again"):
        node_2.succeed(f"{supervisorctl} start gunicorn-0 gunicorn-1")


        def serves_again(_last):
            return "node-2" in {served_by() for _ in range(10)}


        retry(serves_again, 60)
  '';
}
