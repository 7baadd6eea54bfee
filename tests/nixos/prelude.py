ANSWER = f"curl --fail --silent --show-error --max-time 5 {URL}"


def wait_for_the_stack():
    """A request through the virtual IP has reached the database."""
    start_all()
    client.wait_until_succeeds(f"{ANSWER}/api/entries", timeout=600)


def crash(machine):
    """The plug is pulled. A virtual machine is gone at once; a container's cable is cut
    first, because its addresses would stay as long as its network."""
    if hasattr(machine, "crash"):
        machine.crash()
        return
    leader = machine.get_systemd_process
    machine.execute("ip link set eth0 down")
    os.kill(leader, 9)
    machine.wait_for_shutdown()
    # The driver remembers it; the next start has another.
    del machine.get_systemd_process


def wait_for_virtual_ip(machine, timeout=60):
    machine.wait_until_succeeds("gen-topology node check keepalived", timeout=timeout)


def has_virtual_ip(machine):
    status, _ = machine.execute("gen-topology node check keepalived")
    return status == 0


def write(name):
    """Adds an entry that can be told from others, and returns once it is acknowledged."""
    body = '{"id": "' + name + '", "text": "' + name + '"}'
    client.succeed(
        f"{ANSWER}/api/entries --header 'Content-Type: application/json' --data '{body}'"
    )


def wait_until_written(name):
    """Repeats the write, which is safe: an id is added once."""
    body = '{"id": "' + name + '", "text": "' + name + '"}'
    client.wait_until_succeeds(
        f"{ANSWER}/api/entries --header 'Content-Type: application/json' --data '{body}'",
        timeout=60,
    )


def read(name):
    client.succeed(f"{ANSWER}/api/entries/{name}")


def served_by():
    """The app server that answers the next visitor."""
    return client.succeed(f"{ANSWER}/healthz | jq --raw-output .node").strip()


def gap_of(what, act):
    """Says for how long a visitor got no answer around `act`. Four ask without a pause, and none
    waits longer than 100 ms: so it is right within some tens of milliseconds."""
    ask = f"curl --fail --silent --output /dev/null --max-time 0.1 {URL}/healthz"
    each = f"while :; do {ask} && date +%s%N || sleep 0.01; done >> /tmp/answers"
    client.succeed(
        "rm -f /tmp/answers",
        f"systemd-run --unit=visitors --setenv=PATH=$PATH bash -c '({each}) & ({each}) & ({each}) & {each}'",
        "sleep 1",
    )
    act()
    client.succeed("sleep 1.5", "systemctl stop visitors")
    answers = sorted(int(word) for word in client.succeed("cat /tmp/answers").split())
    gap = max(after - before for before, after in zip(answers, answers[1:])) / 1e6
    print(f"measured: {what}: {gap:.0f} ms without an answer, {len(answers)} answers")
