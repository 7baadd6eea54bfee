# HTTPS on a stack without a database: certificates of files, HTTP sent on, and a renewed certificate that
# the path unit loads while a connection goes on.
_: {
  name = "https";

  script = ''
    CERTIFICATES = "/etc/known-to-everybody/certificates"
    VISIT = f"curl --silent --show-error --max-time 5 --http2 --cacert /tmp/authority.pem --resolve site.example:443:{VIRTUAL_IP}"
    SERIAL = (
        f"openssl s_client -connect {VIRTUAL_IP}:443 -servername site.example < /dev/null 2> /dev/null"
        " | openssl x509 -noout -serial"
    )


    def certify():
        """A new certificate with its key, as the load balancers get it; its serial number."""
        client.succeed(
            "openssl req -config /tmp/names -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=site.example"
            " -keyout /tmp/key.pem -out /tmp/request.pem 2>&1",
            "openssl x509 -req -in /tmp/request.pem -CA /tmp/authority.pem -CAkey /tmp/authority.key -days 90"
            " -extfile /tmp/names -extensions leaf -out /tmp/leaf.pem 2>&1",
        )
        for node in [lb_1, lb_2]:
            put(node, "site.pem", client.succeed("cat /tmp/leaf.pem /tmp/key.pem"))
        return client.succeed("openssl x509 -noout -serial -in /tmp/leaf.pem")


    def put(node, file, text):
        """As whoever brings them does: a whole file, which only root can read."""
        place = f"{CERTIFICATES}/{file}"
        node.succeed(f"umask 077; cat > {place}.new << 'END'\n{text.strip()}\nEND", f"mv {place}.new {place}")


    def session(version, what):
        """What openssl says of a visit: whether the session is a new one."""
        return client.succeed(
            f"(echo; sleep 1) | openssl s_client -connect {VIRTUAL_IP}:443 -servername site.example -{version}"
            f" -{what} /tmp/session-{version} 2> /dev/null | grep -E '^(New|Reused), '"
        )


    def loads(node):
        """How often new keys of tickets were loaded."""
        return int(node.succeed("journalctl --unit gen-topology-certificates | grep --count 'new keys of session tickets' || true"))


    def bring(node, keys):
        """Other keys of tickets, until they are loaded."""
        before = loads(node)
        put(node, "ticket-keys", keys)


        def loaded(_last):
            return loads(node) > before


        retry(loaded, 30)


    start_all()
    with subtest("load balancers wait for their certificates"):
        client.succeed(
            "printf '%s\n' '[req]' distinguished_name=dn '[dn]' '[ca]' basicConstraints=critical,CA:true"
            " '[leaf]' subjectAltName=DNS:site.example > /tmp/names",
            "openssl req -x509 -config /tmp/names -extensions ca -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=test authority'"
            " -days 365 -keyout /tmp/authority.key -out /tmp/authority.pem 2>&1",
        )
        keys = client.succeed("for n in 1 2 3; do openssl rand -base64 80 | tr -d '\\n'; echo; done")
        for node in [lb_1, lb_2]:
            node.wait_until_succeeds("systemctl is-active multi-user.target", timeout=120)
            node.fail("systemctl is-active haproxy")
            # Not tried over and over, and it says which file it waits for.
            assert node.succeed("systemctl show --property NRestarts --value haproxy").strip() == "0"
            node.succeed(f"journalctl --unit haproxy | grep 'unmet condition check ConditionPathExists={CERTIFICATES}/'")
            node.succeed(f"mkdir -p -m 700 {CERTIFICATES}")
            put(node, "ticket-keys", keys)
        first = certify()
        client.wait_until_succeeds(f"{VISIT} --fail https://site.example/healthz", timeout=120)
        wait_for_virtual_ip(lb_1)

    with subtest("the page comes over HTTPS, and HTTP is sent there"):
        page = client.succeed(f"{VISIT} --fail https://site.example/")
        assert "<html" in page.lower(), page
        assert client.succeed(SERIAL) == first
        sent = client.succeed(
            f"curl --silent --max-time 5 --output /dev/null --write-out '%{{http_code}} %{{redirect_url}}'"
            f" --header 'Host: site.example' {URL}/page?x=1"
        )
        assert sent == "308 https://site.example/page?x=1", sent

    with subtest("a renewed certificate is loaded, and a connection goes on"):
        client.succeed(
            f"systemd-run --unit=visitor --setenv=PATH=$PATH bash -c \"{VISIT} --max-time 40 --rate 10/s --output /dev/null"
            " --write-out '%{http_code} %{num_connects}\\n' 'https://site.example/healthz?[1-150]' > /tmp/codes 2>&1\"",
            "sleep 2",
        )
        second = certify()
        assert second != first
        client.wait_until_succeeds(f"test \"$({SERIAL})\" = '{second.strip()}'", timeout=10)
        client.succeed("systemctl is-active visitor")
        client.wait_until_fails("systemctl is-active visitor", timeout=40)
        codes = client.succeed("sort /tmp/codes | uniq --count").split("\n")
        counted = sorted(line.split() for line in codes if line.strip())
        assert counted == [["1", "200", "1"], ["149", "200", "0"]], codes

    with subtest("keys of tickets are rotated: sessions go on as long as their key is kept"):
        for version in ["tls1_2", "tls1_3"]:
            assert session(version, "sess_out").startswith("New")
        # haproxy seals with the last but one, so that the others know the key before it is used: it is among the
        # three after one rotation, and no more after two.
        for known in [True, False]:
            # As `gen-topology secrets rotate` does it: the oldest goes, a new one comes.
            kept = keys.split()[1:] + [client.succeed("openssl rand -base64 80 | tr -d '\\n'").strip()]
            keys = "\n".join(kept)
            for node in [lb_1, lb_2]:
                bring(node, keys)
            for version in ["tls1_2", "tls1_3"]:
                said = session(version, "sess_in")
                assert said.startswith("Reused" if known else "New"), f"{version}, {known}: {said}"

    with subtest("one that does not fit is refused, and the other one goes on"):
        put(lb_1, "site.pem", client.succeed("cat /tmp/leaf.pem /tmp/authority.key"))
        lb_1.wait_until_succeeds("systemctl is-failed gen-topology-certificates", timeout=10)
        client.succeed(f"{VISIT} --fail https://site.example/healthz")
        assert client.succeed(SERIAL) == second

    with subtest("the other load balancer serves the same"):
        lb_1.succeed("systemctl stop keepalived")
        wait_for_virtual_ip(lb_2, timeout=10)
        client.succeed(f"{VISIT} --fail https://site.example/healthz")
        assert client.succeed(SERIAL) == second
  '';
}
