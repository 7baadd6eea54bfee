# Two applications on the same app servers: each answers its own host, and one that is dead or restarted takes
# nothing from the other.
_: {
  name = "apps";

  script = ''
    supervisorctl = "supervisorctl --configuration /etc/supervisor/supervisord.conf"
    SHOP = f"{ANSWER.removesuffix(URL)} --header 'Host: shop.example' {URL}"
    start_all()
    client.wait_until_succeeds(f"{ANSWER}/healthz", timeout=300)
    client.wait_until_succeeds(f"{SHOP}/", timeout=60)

    with subtest("each answers its own host"):
        assert client.succeed(f"{SHOP}/") == "shop\n"
        assert "<html" in client.succeed(f"{ANSWER}/").lower()


    def pids(node, app):
        return node.succeed(f"{supervisorctl} pid gunicorn{app}0 gunicorn{app}1").split()


    for node in [app_1, app_2]:
        node.wait_until_succeeds(f"{supervisorctl} status gunicorn-0 gunicorn-shop-0", timeout=60)

    with subtest("one is dead on a server: the other goes on there, and its visitors get the other server"):
        before = pids(app_1, "-")
        app_1.succeed(f"{supervisorctl} stop gunicorn-shop-0 gunicorn-shop-1")
        for number in range(20):
            client.succeed(f"{SHOP}/")


        def both_serve(_last):
            return {served_by() for _ in range(20)} == {"app-1", "app-2"}


        retry(both_serve, 60)
        assert pids(app_1, "-") == before
        app_1.succeed(f"{supervisorctl} start gunicorn-shop-0 gunicorn-shop-1")

    with subtest("a change of one restarts its own instances only"):
        before, shop = pids(app_2, "-"), pids(app_2, "-shop-")
        config = "/etc/gunicorn/apps/shop.conf.py"
        app_2.succeed(
            f"cp -L {config} /run/changed && echo '# changed' >> /run/changed && rm {config} && cp /run/changed {config}",
            "timeout 200 systemctl reload supervisord",
        )
        assert pids(app_2, "-") == before
        assert not set(pids(app_2, "-shop-")) & set(shop)
        client.succeed(f"{SHOP}/")
  '';
}
