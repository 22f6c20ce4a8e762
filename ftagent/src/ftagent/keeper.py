"""The tiny parent of a job: starts it, waits for it, writes down how each process ended, and does nothing else.

It is no child of the agent's session and hears no hang-up, so the agent may die and come back; exit statuses are
written here because only a parent is told them.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time

from ftagent import layout, processes

_PR_SET_CHILD_SUBREAPER = 36
_END_TRIES = 60
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main(folder):
    # type: (str) -> int
    """Run the attempt whose folder this is; its `spec.json` says what."""
    spec = layout.read_dict(os.path.join(folder, "spec.json"))
    lock = os.open(os.path.join(folder, "keeper.lock"), os.O_CREAT | os.O_WRONLY, 0o600)  # open as long as we live
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 3  # of two keepers of one attempt the second gives way: the job runs once
    if os.path.exists(os.path.join(folder, "keeper.json")):
        return 3  # there was one, and it is no more
    for word in _IGNORED:
        signal.signal(word, signal.SIG_IGN)
    _adopt_orphans()
    children = {}
    kept = {"pid": os.getpid(), "start_time": processes.start_time(os.getpid()), "children": [], "ready": False}
    layout.write_json(os.path.join(folder, "keeper.json"), kept)
    os.umask(int(spec.get("umask", 0o022)))  # the job's files are the user's, not ours
    for index, process in enumerate(_plan(spec)):
        child = _start(spec, process)
        if child is None:
            _note(folder, process["name"], 0, 127 << 8)
            continue
        children[child] = process["name"]
        row = {"name": process["name"], "pid": child, "start_time": processes.start_time(child), "index": index}
        kept["children"].append(row)
        layout.write_json(os.path.join(folder, "keeper.json"), kept)
    kept["ready"] = True
    layout.write_json(os.path.join(folder, "keeper.json"), kept)
    _wait(folder, children, len(_plan(spec)))
    return 0


def _plan(spec):
    # type: (dict) -> list
    """What to start: one command, or numbered copies of it."""
    copies = int(spec.get("nproc") or 0)
    if not copies:
        return [{"name": "main", "env": {}}]
    port = str(spec.get("port", 29500))
    sizes = {"WORLD_SIZE": str(copies), "LOCAL_WORLD_SIZE": str(copies)}
    shared = dict(sizes, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    return [
        {"name": "rank%d" % rank, "env": dict(shared, RANK=str(rank), LOCAL_RANK=str(rank))} for rank in range(copies)
    ]


def _start(spec, process):
    # type: (dict, dict) -> object
    try:
        out = open(os.path.join(spec["logs"], process["name"] + ".log"), "ab")
    except OSError as error:
        sys.stderr.write("ftagent: cannot start %s: %s\n" % (process["name"], error))
        return None
    with out:
        try:
            child = subprocess.Popen(
                spec["command"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=spec["cwd"],
                env=dict(spec["env"], **process["env"]),
                preexec_fn=_hear_signals,  # noqa: PLW1509  # the keeper has no threads
            )
        except (OSError, subprocess.SubprocessError) as error:
            out.write(("ftagent: cannot start %s: %s\n" % (spec["command"], error)).encode("utf-8", "replace"))
            return None
    child.returncode = 0  # waited for below, by pid
    return child.pid


def _hear_signals():
    # type: () -> None
    """What is ignored here would stay ignored in the job."""
    for word in _IGNORED:
        signal.signal(word, signal.SIG_DFL)


def _adopt_orphans():
    # type: () -> None
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # then orphans go to init, and how they end is read from /proc alone


def _wait(folder, children, count):
    # type: (str, dict, int) -> None
    waiting = dict(children)
    if not waiting:
        _end(folder, 127 << 8)
    worst = 127 << 8 if len(children) < count else 0
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        except InterruptedError:
            continue
        _note(folder, waiting.get(pid, "pid%d" % pid), pid, status)
        if pid in waiting:
            del waiting[pid]
            worst = worst or status  # the first that did not end well
            if not waiting:
                _end(folder, worst)


def _note(folder, name, pid, status):
    # type: (str, str, int, int) -> None
    code, killed_by = processes.how_it_ended(status)
    row = {"name": name, "pid": pid, "exit_code": code, "signal": killed_by, "at": time.time()}
    try:
        layout.write_json(os.path.join(folder, "exit-%d.json" % pid), row)
    except OSError as error:  # a full disk must not cost the job its keeper
        sys.stderr.write("ftagent: how %s ended is not kept: %s\n" % (name, error))


def _end(folder, status):
    # type: (str, int) -> None
    code, killed_by = processes.how_it_ended(status)
    row = {"exit_code": code, "signal": killed_by, "at": time.time()}
    for _ in range(_END_TRIES):
        try:
            layout.write_json(os.path.join(folder, "ended.json"), row)
            return
        except OSError:
            time.sleep(1.0)  # the one fact that must not be lost: the disk may have room again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
