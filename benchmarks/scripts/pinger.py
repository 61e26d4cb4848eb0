"""Pings the server at the socket that is its argument until its input ends; then prints how long it had to wait."""

import contextlib
import json
import os
import select
import socket
import sys
import time

BETWEEN_S = 0.0005


def main() -> None:
    with contextlib.suppress(OSError):
        os.nice(-10)  # so that the server's pauses are seen rather than its own; needs to be root
    waits: list[float] = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        print("ready", flush=True)
        while not waits or not select.select([sys.stdin], [], [], BETWEEN_S)[0]:
            began = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            waits.append(time.perf_counter() - began)
    waits.sort()
    print(json.dumps({"pings": len(waits), "longest_s": waits[-1], "p999_s": waits[int(len(waits) * 0.999)]}))


if __name__ == "__main__":
    main()
