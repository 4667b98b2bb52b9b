"""The program, loaded once: each start of it is a fork (see forked.py).

python -m tests.support.loaded SOCKET
"""

# gevent replaces some of these by others, which need its loop; two processes cannot share a loop
import gc
import json
import os
import sys
import time
from os import close, fork, waitpid
from socket import recv_fds, socket

requests = socket(fileno=int(sys.argv[1]))
requests.setblocking(True)

import gevent  # noqa: E402

from fsplanfix.__main__ import __file__ as program  # noqa: E402
from fsplanfix.__main__ import main  # noqa: E402

LONGEST = 1 << 20
"""Bytes of a request."""


def wait_for_starts() -> None:
    """Fork for each request. Returns only in a child, once it is the program that was asked for."""
    started: set[int] = set()
    while True:
        request, files, _, _ = recv_fds(requests, LONGEST, 4)
        # so that their CPU time counts as that of the tests
        started -= {one for one in started if waitpid(one, os.WNOHANG)[0]}
        if not request:
            sys.exit()
        child = fork()
        if not child:
            close(requests.detach())
            return start(request, *files)
        started.add(child)
        for file in files:
            close(file)


def start(request: bytes, state: int, *files: int) -> None:
    """Fork once more, and stay only to tell what becomes of the child."""
    child = fork()
    if not child:
        close(state)
        return become(files=files, **json.loads(request))

    for file in files:
        close(file)
    os.write(state, b"%d\n" % child)
    _, status = waitpid(child, 0)
    os.write(state, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(
    files: tuple[int, ...], numbers: list[int], words: list[str], folder: str, env: dict[str, str]
) -> None:
    """Have what a program of its own begins with."""
    gevent.reinit()  # as after a fork of gevent's own
    os.setsid()
    for file, number in zip(files, numbers, strict=True):
        os.dup2(file, number)
    for file in set(files) - set(numbers):
        close(file)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv[:] = [program, *words]
    sys.path[0] = folder


if __name__ == "__main__":
    gc.freeze()  # what a fork does not touch is not copied
    wait_for_starts()
    __package__ = "fsplanfix"  # click names the program by it
    main()
