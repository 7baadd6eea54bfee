# A changed number of instances, and a change to all of them: supervisord takes it over, one instance
# after the other and each once, and the node answers all the time.
_: {
  name = "app-reloads";

  script = ''
    supervisorctl = "supervisorctl --configuration /etc/supervisor/supervisord.conf"
    supervisord = "/etc/supervisor/supervisord.conf"
    wait_for_the_stack()
    node_2.wait_until_succeeds(f"{supervisorctl} status gunicorn-0 gunicorn-1", timeout=120)


    def starts(instance):
        return int(node_2.succeed(f"grep --count \"spawned: '{instance}'\" /var/log/supervisor/supervisord.log"))


    def reload(edit):
        """What the node answers while its service is reloaded with another supervisord.conf."""
        node_2.succeed(
            f"sed '{edit}' {supervisord} > /run/another.conf",
            f"grep --quiet gunicorn-2 {supervisord} || sed -n '/program:gunicorn-1/,/^$/p' {supervisord}"
            " | sed 's/gunicorn-1/gunicorn-2/g' >> /run/another.conf",
            f"rm {supervisord}",
            f"cp /run/another.conf {supervisord}",
        )
        ask = "curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}\\n' http://10.20.0.64/healthz"
        node_1.succeed(
            "rm -f /tmp/codes",
            f"systemd-run --unit=asks --setenv=PATH=$PATH bash -c \"while :; do {ask} >> /tmp/codes; done\"",
        )
        node_2.succeed("timeout 200 systemctl reload supervisord")
        node_1.succeed("systemctl stop asks")
        return node_1.succeed("sort /tmp/codes | uniq --count").split("\n")


    with subtest("one instance more"):
        before = [starts("gunicorn-0"), starts("gunicorn-1")]
        codes = reload("")
        assert len(codes) == 2 and " 200" in codes[0], codes
        node_2.succeed(f"{supervisorctl} status gunicorn-2")
        assert [starts("gunicorn-0"), starts("gunicorn-1")] == [count + 1 for count in before]
        assert starts("gunicorn-2") == 1

    with subtest("a change to all of them"):
        codes = reload("s/^stopwaitsecs=40$/stopwaitsecs=41/")
        assert len(codes) == 2 and " 200" in codes[0], codes
        assert [starts("gunicorn-0"), starts("gunicorn-1")] == [count + 2 for count in before]
        assert starts("gunicorn-2") == 2
  '';
}
