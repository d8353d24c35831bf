"""Runs a program and says what the kernel counted: `python -S launch.py FILE PROGRAM …`; JSON goes to FILE.

A process of its own, because a child begins with the peak memory of the process that it is split off from
(`ru_maxrss` of getrusage(2) survives execve), and this one is as small as Python gets.
"""

import os
import signal
import sys
import time


def main() -> int:
    began = time.perf_counter()
    child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(status)
    with open(sys.argv[1], "w") as file:  # noqa: PTH123  # pathlib would double what this process takes
        file.write(
            f'{{"code": {code}, "seconds": {seconds}, "processor": {usage.ru_utime + usage.ru_stime}, '
            f'"peak": {usage.ru_maxrss}}}'
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
