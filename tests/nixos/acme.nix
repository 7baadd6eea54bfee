# A certificate by ACME, from pebble on the visitor's machine: got without anybody's help, followed by the other load
# balancer, kept over a restart, renewed, and served when the first one is lost.
_: {
  name = "acme";

  script = ''
    CERTIFICATES = "/etc/known-to-everybody/certificates"
    KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    SHOWN = (
        f"openssl s_client -connect {VIRTUAL_IP}:443 -servername one.example < /dev/null 2> /dev/null"
        " | openssl x509 -noout -serial"
    )


    def put(node, file, text):
        place = f"{CERTIFICATES}/{file}"
        node.succeed(f"umask 077; cat > {place}.new << 'END'\n{text.strip()}\nEND", f"mv {place}.new {place}")


    def visit(name):
        return f"curl --fail --silent --show-error --max-time 5 --cacert /tmp/roots.pem --resolve {name}:443:{VIRTUAL_IP} https://{name}/healthz"


    def taken(times):
        """Whether a load balancer has followed as often."""
        said = "took the certificate that the virtual IP shows"
        return f"test $(journalctl --unit renew-certificates | grep --count '{said}') -eq {times}"


    def order(node):
        """Another certificate, now: by the unit's user, who has to be able to read it."""
        print(node.succeed("gen-topology node renew-certificates --once --anyway 2>&1"))


    start_all()
    with subtest("an authority, and what load balancers need to ask it"):
        client.succeed(
            "printf '%s\n' '[req]' distinguished_name=dn '[dn]' '[ca]' basicConstraints=critical,CA:true"
            " '[door]' subjectAltName=IP:10.20.0.250 > /tmp/names",
            f"openssl req -x509 -config /tmp/names -extensions ca {KEY} -subj '/CN=test authority' -days 9"
            " -keyout /tmp/root.key -out /tmp/root.pem 2>&1",
            f"openssl req -config /tmp/names {KEY} -subj /CN=door -keyout /tmp/door.key -out /tmp/door.request 2>&1",
            "openssl x509 -req -in /tmp/door.request -CA /tmp/root.pem -CAkey /tmp/root.key -days 9"
            " -extfile /tmp/names -extensions door -out /tmp/door.pem 2>&1",
            """cat > /tmp/pebble.json << 'END'
    {"pebble": {"listenAddress": "0.0.0.0:14000", "managementListenAddress": "127.0.0.1:15000", "httpPort": 80, "tlsPort": 443,
    "certificate": "/tmp/door.pem", "privateKey": "/tmp/door.key", "certificateValidityPeriod": 648000}}
    END""",
            f"systemd-run --unit=names pebble-challtestsrv -defaultIPv4 {VIRTUAL_IP} -defaultIPv6 ''' -dnsserver 127.0.0.1:8053 -doh '''"
            " -http01 ''' -https01 ''' -tlsalpn01 ''' -management 127.0.0.1:8055",
            "systemd-run --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_AUTHZREUSE=0"
            " pebble -config /tmp/pebble.json -dnsserver 127.0.0.1:8053",
        )
        client.wait_until_succeeds("curl --silent --insecure https://127.0.0.1:15000/roots/0 > /tmp/roots.pem", timeout=30)
        given = {
            "acme-account.key": client.succeed("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
            "acme.key": client.succeed("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
            "root.pem": client.succeed("cat /tmp/root.pem"),
            "ticket-keys": client.succeed("for n in 1 2 3; do openssl rand -base64 80 | tr -d '\\n'; echo; done"),
        }
        for node in [lb_1, lb_2]:
            node.wait_until_succeeds("systemctl is-active multi-user.target", timeout=120)
            node.succeed(f"mkdir -p -m 700 {CERTIFICATES}")
            for file, text in given.items():
                put(node, file, text)

    with subtest("a certificate comes by itself, for all names"):
        wait_for_virtual_ip(lb_1)
        client.wait_until_succeeds(visit("one.example"), timeout=300)
        client.succeed(visit("two.example"))
        first = client.succeed(SHOWN)

    with subtest("the other load balancer takes the same"):
        lb_2.wait_until_succeeds(taken(1), timeout=90)

    with subtest("it is kept over a restart, and renewed"):
        lb_1.succeed("systemctl restart haproxy")
        client.wait_until_succeeds(visit("one.example"), timeout=30)
        assert client.succeed(SHOWN) == first
        wait_for_virtual_ip(lb_1)
        order(lb_1)
        second = client.succeed(SHOWN)
        assert second != first
        lb_1.succeed("systemctl restart haproxy")
        client.wait_until_succeeds(visit("one.example"), timeout=30)

    with subtest("the first load balancer is lost, and the other renews"):
        lb_2.wait_until_succeeds(taken(2), timeout=90)
        third = client.succeed(SHOWN)
        assert third == second, f"{second} became {third} by the restart"
        crash(lb_1)
        wait_for_virtual_ip(lb_2, timeout=10)
        client.wait_until_succeeds(visit("one.example"), timeout=10)
        followed = client.succeed(SHOWN)
        assert followed == second, f"{followed}, not {second}; the first was {first}"
        order(lb_2)
        assert client.succeed(SHOWN) not in [first, second]
        client.succeed(visit("two.example"))
  '';
}
