"""Run one command and write what it cost as JSON; started as `python -I -S launch.py`, an interpreter of its own.

Linux counts the memory of the process that forks into the peak memory of what it starts (exec_mmap() keeps the old
high-water mark), so the one that starts a measured command has to be small; and the interpreter's own start is not in
the time measured.
"""

import json
import os
import signal
import sys
import time


def busy_s() -> float:
    """Return for how long the machine's CPUs have been at work since it started, all of them together; 0: not known.

    proc(5), /proc/stat: user nice system idle iowait irq softirq steal, in ticks.
    """
    try:
        with open("/proc/stat") as file:
            ticks = [int(each) for each in file.readline().split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, _ = ticks
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def main(result: str, stdout: str, stderr: str, timeout_s: str, *argv: str) -> None:
    """Run argv with its output in files; kill it with all of its children when the time is up."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o600),
    ]
    before_s = busy_s()
    started = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setpgroup=0)
    timed_out = False

    def end(*_: object) -> None:
        nonlocal timed_out
        timed_out = True
        os.killpg(pid, signal.SIGKILL)

    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    signal.setitimer(signal.ITIMER_REAL, float(timeout_s))
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - started
    signal.setitimer(signal.ITIMER_REAL, 0)
    cost = {
        "wall_s": wall_s,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "machine_s": busy_s() - before_s,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "code": os.waitstatus_to_exitcode(status),
        "timed_out": timed_out,
    }
    with open(result, "w") as file:
        json.dump(cost, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
