"""Asks a page at a fixed rate, on a new connection each time, until standard input ends.

Open loop: a request is sent when its time has come, whatever became of those before. Prints one line of
JSON: how many were sent, how many had no good answer, the slowest answer, and the longest time in which
no good answer arrived; and how late requests were sent, which is this machine's fault. Usage: probe.py ADDRESS PORT PATH RATE
"""

import json
import socket
import sys
import threading
import time

ADDRESS, PORT, PATH, RATE = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: www\r\nConnection: close\r\n\r\n".encode()
LIMIT = 10.0
samples: list[tuple[float, float, str]] = []


def ask(begun: float) -> None:
    try:
        with socket.create_connection((ADDRESS, PORT), LIMIT) as connection:
            connection.settimeout(LIMIT)
            connection.sendall(REQUEST)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        status = answer.split(b" ", 2)[1:2]
        what = "200" if status == [b"200"] and b"\r\n\r\n" in answer else repr(answer[:40])
    except OSError as error:
        what = type(error).__name__
    samples.append((begun, time.monotonic(), what))


ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
start = time.monotonic()
threads = []
late = 0.0
while not ended.is_set() and len(threads) < 100 * RATE:
    due = start + len(threads) / RATE
    time.sleep(max(0.0, due - time.monotonic()))
    late = max(late, time.monotonic() - due)
    thread = threading.Thread(target=ask, args=(due,))
    thread.start()
    threads.append(thread)
for thread in threads:
    thread.join()
good = sorted(end for _, end, what in samples if what == "200")
bad = sorted({what for _, _, what in samples if what != "200"})
gaps = [b - a for a, b in zip([start, *good], good)]
slowest = max((end - begun for begun, end, what in samples if what == "200"), default=0.0)
print(json.dumps({
    "sent": len(samples),
    "lost": len(samples) - len(good),
    "bad": bad,
    "gap_ms": round(1000 * max(gaps, default=0.0)),
    "late_ms": round(1000 * late),
    "slowest_ms": round(1000 * slowest),
}))
