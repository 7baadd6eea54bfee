#!/usr/bin/env python3
"""What HTTPS costs, and what planned moves and renewals lose: in a lab of its own, which is taken down at the end.

    benches/https.py PROGRAM [REQUESTS]

PROGRAM is gen-topology. Needs curl and openssl. Prints one line for each measurement.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(sys.argv[1])
REQUESTS = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
VISITORS = 20
RATE = 10  # requests a second of each visitor
NAME = "www.example"
VIP = "10.20.0.10"


def run(*words: str, stdin: str | None = None) -> str:
    """gen-topology's output; what it says goes to this program's own."""
    done = subprocess.run(
        [PROGRAM, *words], input=stdin, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def inside(node: str, script: str) -> list[str]:
    """The command line of a script in a node."""
    return [PROGRAM, "lab", "exec", node, "--", "sh", "-c", script]


def seconds_of_haproxy(node: str) -> float:
    """Processor time of a node's haproxy processes so far."""
    script = "for p in $(pidof haproxy); do cut -d' ' -f14,15 /proc/$p/stat; done"
    said = subprocess.run(inside(node, script), stdout=subprocess.PIPE, text=True, check=True)
    return sum(int(word) for word in said.stdout.split()) / os.sysconf("SC_CLK_TCK")


def visitor(url: str, options: str, count: int) -> "subprocess.Popen[str]":
    """One connection that sends `count` requests at a fixed rate."""
    script = (
        f"exec curl -sS --cacert /tmp/root.pem --resolve {NAME}:443:{VIP} --resolve {NAME}:80:{VIP} {options}"
        f" -o /dev/null -w '%{{http_code}}\\n' '{url}?[1-{count}]'"
    )
    return subprocess.Popen(inside("db-1", script), stdout=subprocess.PIPE, text=True)


def good(visitors: "list[subprocess.Popen[str]]") -> int:
    """How many requests were answered 200."""
    return sum(visitor.communicate()[0].split().count("200") for visitor in visitors)


def moves() -> None:
    """Planned moves and renewals under load."""
    count = REQUESTS // VISITORS
    url = f"https://{NAME}/readyz"
    load = [visitor(url, f"--http2 --rate {RATE}/s", count) for _ in range(VISITORS)]
    moved = renewed = 0
    end = time.monotonic() + count / RATE - 10
    while time.monotonic() < end:
        run("lab", "stop", "lb-1")
        run("lab", "start", "lb-1")
        run("lab", "renew")
        moved, renewed = moved + 2, renewed + 1
        time.sleep(4)
    answered = good(load)
    print(f"{moved} planned moves, {renewed} renewals, HTTP/2: {count * VISITORS - answered} of {count * VISITORS} lost")


def handshakes() -> None:
    """New connections a second, whole handshakes and resumed ones."""
    for kind in ("new", "reuse"):
        script = f"openssl s_time -connect {VIP}:443 -{kind} -time 5 -www /readyz 2>&1"
        said = subprocess.run(inside("db-1", script), stdout=subprocess.PIPE, text=True).stdout
        found = re.search(r"([\d.]+) connections in (\d+) real seconds", said)
        if found:
            # s_time counts a second more than it was told.
            print(f"handshakes, {kind}: {int(float(found[1]) / int(found[2]))} a second")


def cost() -> None:
    """haproxy's processor time for a request, plain and encrypted, on kept connections."""
    for name, url, options in (
        ("HTTP/1.1", f"http://{NAME}/readyz", "--http1.1"),
        ("HTTPS, HTTP/1.1", f"https://{NAME}/readyz", "--http1.1"),
        ("HTTPS, HTTP/2", f"https://{NAME}/readyz", "--http2"),
    ):
        before = seconds_of_haproxy("lb-1")
        answered = good([visitor(url, f"{options} --rate 100/s", 1000) for _ in range(3)])
        spent = seconds_of_haproxy("lb-1") - before
        print(f"{name}: {spent / max(answered, 1) * 1e6:.0f} µs of haproxy's time for a request ({answered} answered)")


def main() -> None:
    """A stack with two load balancers, without a redirect so that plain HTTP can be compared."""
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        os.environ["GEN_TOPOLOGY_STATE"] = os.path.join(directory, "state")
        run("init", "site")
        os.chdir("site")
        with open("topology.json", encoding="utf-8") as file:
            topology = json.load(file)
        tls = {"names": [NAME], "authority": "lab", "redirect": False}
        topology.setdefault("load_balancer", {})["tls"] = tls
        with open("topology.json", "w", encoding="utf-8") as file:
            json.dump(topology, file)
        try:
            run("lab", "up", "--wait")
            root = next(
                os.path.join(path, "authority.pem")
                for path, _, files in os.walk(directory)
                if "authority.pem" in files
            )
            with open(root, encoding="utf-8") as file:
                subprocess.run(inside("db-1", "cat > /tmp/root.pem"), input=file.read(), text=True, check=True)
            time.sleep(5)
            cost()
            handshakes()
            moves()
        finally:
            run("lab", "down")


main()
