# `gen-topology deploy` on NixOS, over ssh: what it changes and how, its ways back, and what visitors notice.
# SYSTEMS has the systems to bring, by name and node.

import json
import time

NODES = {
    "node-1": node_1,
    "node-2": node_2,
    "node-3": node_3,
    "node-4": node_4,
    "node-5": node_5,
}
# They run NixOS, and nothing of the stack until they join.
JOINING = {"node-6": node_6, "node-7": node_7, "node-8": node_8}
# What visitors lost, told at the end, so that a run shows all of it.
LOST: list[str] = []
# Entries that were acknowledged, by all visitors so far.
ACKNOWLEDGED: list[str] = []
VISITORS = """
ask() {
    while :; do
        curl --silent --output /dev/null --max-time 10 --write-out "$1 %{http_code} %{time_total}\\n" "URL$1"
    done
}
add() {
    number=0
    while :; do
        number=$((number + 1))
        curl --silent --output /dev/null --max-time 10 --write-out "$1-$number %{http_code} %{time_total}\\n" \\
            --header "Content-Type: application/json" --data "{\\"id\\": \\"$1-$number\\", \\"text\\": \\"$1\\"}" "URL/api/entries"
        sleep 0.05
    done
}
ask /healthz & ask /healthz & ask /api/entries & add "$1"
"""


def visited(what, act):
    """What visitors got while `act` ran: four at a time, one of them adds entries."""
    name = what.replace(" ", "-")
    client.succeed(
        f"rm -f /tmp/visits; cat > /tmp/visitors << 'END'\n{VISITORS.replace('URL', URL)}\nEND",
        f"systemd-run --unit=visitors --setenv=PATH=$PATH bash -c 'bash /tmp/visitors {name} >> /tmp/visits'",
        "sleep 2",
    )
    began = time.monotonic()
    try:
        act()
    finally:
        took = time.monotonic() - began
        client.succeed("sleep 2", "systemctl stop visitors")
        visits = [line.split() for line in client.succeed("cat /tmp/visits").splitlines()]
        whole = [visit for visit in visits if len(visit) == 3]
        ACKNOWLEDGED.extend(visit[0] for visit in whole if visit[1] == "201")
        lost = [visit for visit in whole if visit[1] not in ("200", "201")]
        slowest = max(float(visit[2]) for visit in whole)
        print(f"measured: {what}: {took:.0f} s, {len(whole)} requests, {len(lost)} lost, slowest {slowest * 1000:.0f} ms")
    if lost:
        LOST.append(f"{what}: {lost[:10]}")


def asked(command, code=0):
    """What the program says on the deployer's machine."""
    status, said = client.execute(f"cd /root/stack && HOME=/root gen-topology {command} 2>&1", timeout=900)
    print(f"gen-topology {command}: {status}\n{said}")
    assert status == code, f"`gen-topology {command}` ended with {status}, not {code}"
    return said


def project(name):
    """The project's topology is now another one."""
    client.succeed(f"sed 's|../../../app|./app|' /etc/project/{name}.json > /root/stack/topology.json")


def systems(name, **others):
    """A file of systems for `--closures`."""
    chosen = {**SYSTEMS[name], **{node.replace("_", "-"): SYSTEMS[of][node.replace("_", "-")] for node, of in others.items()}}
    client.succeed(f"cat > /root/systems.json << 'END'\n{json.dumps(chosen)}\nEND")
    return "--closures /root/systems.json --yes"


def none_is_lost():
    """Every entry that was ever acknowledged can be read."""
    entries = "\n".join(f"{URL}/api/entries/{entry}" for entry in ACKNOWLEDGED)
    client.succeed(
        f"cat > /tmp/entries << 'END'\n{entries}\nEND",
        "xargs --arg-file /tmp/entries --max-args 100"
        " curl --silent --max-time 5 --write-out '%{stderr}%{http_code} %{url}\\n' > /dev/null 2> /tmp/read",
    )
    missing = client.succeed("grep --invert-match '^200 ' /tmp/read || true").splitlines()
    read_again = int(client.succeed("grep --count '^200 ' /tmp/read"))
    print(f"measured: {len(ACKNOWLEDGED)} entries acknowledged, {len(missing)} missing")
    assert not missing and read_again == len(ACKNOWLEDGED), missing[:10]


def killed_in(node, options):
    """A deploy that is killed, with all that it had started, once it has begun its step on this node."""
    client.succeed(
        "systemd-run --unit=deployer --collect --working-directory=/root/stack --setenv=HOME=/root --setenv=PATH=$PATH"
        f" bash -c 'exec gen-topology deploy {options} > /tmp/deployer 2>&1'"
    )
    journal = "/root/stack/.gen-topology/deploy.journal"
    status, _ = client.execute(
        f"timeout 300 bash -c 'until tail -n 1 {journal} | grep start | grep --quiet {node}; do"
        " systemctl is-active --quiet deployer || exit 1; sleep 0.05; done'",
        timeout=310,
    )
    client.execute("systemctl kill --signal=KILL deployer")
    client.wait_until_fails("systemctl is-active deployer", timeout=10)
    print(f"the deploy that was killed in {node}: {client.succeed('cat /tmp/deployer')}")
    assert status == 0, f"no step on {node} was begun"


def current(names=None):
    return {name: NODES[name].succeed("readlink /run/current-system").strip() for name in names or NODES}


def boots(name):
    return NODES[name].succeed("readlink -f /nix/var/nix/profiles/system").strip()


with subtest("machines with a system of before, and somebody who may change them"):
    wait_for_the_stack()
    client.succeed(
        "cp -rL /etc/project /root/stack && chmod -R u+w /root/stack && mkdir -p -m 700 /root/.ssh",
        "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519",
    )
    key = client.succeed("cat /root/.ssh/id_ed25519.pub").strip()
    for name, node in {**NODES, **JOINING, "client": client}.items():
        node.copy_from_host(f"/results/registered/{name}", "/tmp/registered")
        node.succeed("mkdir -p /nix/var/nix/db", "NIX_REMOTE=local nix-store --load-db < /tmp/registered")
        # What Debian's Nix has no unit of NixOS for.
        node.succeed("systemd-run --unit=nix-daemon-here /run/current-system/sw/bin/nix-daemon")
        node.wait_for_file("/nix/var/nix/daemon-socket/socket", timeout=30)
    for name, node in {**NODES, **JOINING}.items():
        node.succeed(
            f"mkdir -p -m 700 /root/.ssh && echo '{key}' > /root/.ssh/authorized_keys",
            "nix-env --profile /nix/var/nix/profiles/system --set $(readlink -f /run/current-system)",
            # Debian's sshd wants the one, and does not know NixOS's PATH.
            "mkdir -p /run/sshd && echo '. /etc/set-environment' > /root/.bashrc",
        )
        node.wait_until_succeeds("systemctl is-active sshd.socket", timeout=60)
    addresses = " ".join(
        node["address"] for node in json.loads(client.succeed("cat /etc/project/grown.json"))["nodes"].values()
    )
    client.wait_until_succeeds(f"ssh-keyscan -T 10 {addresses} > /root/.ssh/known_hosts 2>/dev/null", timeout=60)
    for name in ["node-1", "node-2", "node-4", "node-5"]:
        NODES[name].wait_until_succeeds("systemctl is-active multi-user.target", timeout=60)

with subtest("what runs is told"):
    said = asked("status")
    assert said.count("ready") == 5, said
    asked("drift")
    said = asked("exec --on @app -- hostname")
    assert sorted(said.splitlines()) == ["node-2 | node-2", "node-4 | node-4"], said

before = current()

with subtest("another setting of haproxy and other code"):
    project("changed")
    visited("haproxy and code", lambda: asked(f"deploy {systems('changed')}"))
    wanted = {**before, **SYSTEMS["changed"]}
    assert current() == wanted
    for name in SYSTEMS["changed"]:
        assert boots(name) == wanted[name], name
    node_1.succeed("grep 'maxconn 4000' /etc/haproxy/haproxy.cfg")
    node_2.succeed("grep 2.0.0 /etc/gen-topology/app/app.py")
    said = asked(f"deploy {systems('changed')}")
    assert "nothing to do" in said, said
    asked("drift")

with subtest("back to the generation before, and forth again"):
    visited("rollback", lambda: asked("rollback --yes --on @load-balancer,@app"))
    assert current(["node-1", "node-2", "node-4", "node-5"]) == {
        name: before[name] for name in ["node-1", "node-2", "node-4", "node-5"]
    }
    asked("drift", code=2)
    visited("forth again", lambda: asked(f"deploy {systems('changed')}"))
    assert current() == wanted

with subtest("a system that does not activate goes back"):
    visited("a system that fails", lambda: asked(f"deploy {systems('changed', node_4='fails')}", code=5))
    assert current() == wanted
    assert boots("node-4") == wanted["node-4"]

with subtest("a system that nobody reaches goes back"):
    visited(
        "a system that is cut off",
        lambda: asked(f"deploy {systems('changed', node_4='cuts')} --confirm-within 10s", code=5),
    )
    assert current() == wanted
    assert boots("node-4") == wanted["node-4"]
    asked("status")

with subtest("an app server and two databases join, by a deploy that is killed twice"):
    project("grown")
    deploy = f"{systems('grown')} --confirm-within 10s"

    def grow():
        killed_in("node-7", deploy)
        assert "killed in a step" in asked(f"deploy {deploy}", code=1)
        killed_in("node-4", f"{deploy} --resume")
        # Nobody confirmed it.
        node_4.wait_until_succeeds(f"test $(readlink /run/current-system) = {wanted['node-4']}", timeout=60)
        asked(f"deploy {deploy} --resume")

    visited("nodes that join", grow)
    NODES.update(JOINING)
    assert current() == SYSTEMS["grown"]
    assert "nothing to do" in asked(f"deploy {deploy}")
    said = asked("status")
    assert said.count("ready") == 8, said
    asked("drift")
    none_is_lost()
    assert "node-6" in {served_by() for _ in range(30)}

with subtest("the databases that joined have all entries"):
    crash(node_3)
    client.wait_until_succeeds(f"{ANSWER}/api/entries", timeout=30)
    none_is_lost()
    wait_until_written("without-node-3")

assert not LOST, "\n".join(LOST)
