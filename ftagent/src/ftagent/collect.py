"""Evidence of a hang: stacks, flight recorder and process states of all ranks at once, each within its own time."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from ftagent import layout, processes, side
from ftagent.ring import W_STEP, W_STEPPED_AT, W_WORLD

_MOST_SENT = 12 << 20
STACKS_S = 5.0
ASK_S = 4.0
_KEPT = 8
_AT_ONCE = 4


def py_spy():
    # type: () -> object
    """Where py-spy is, None if nowhere."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return shutil.which("py-spy") or (beside if os.access(beside, os.X_OK) else None)


def collect(watcher, order, what, ranks, folder):
    # type: (object, str, set, set, str) -> list
    """Collect into `folder`; return the dump records, the last one marked complete.

    what: some of stacks, flight_recorder, processes; ranks: empty for all
    """
    layout.make_folder(folder)
    _bound(os.path.dirname(folder), folder)
    wanted = {rank: one for rank, one in watcher.by_rank().items() if not ranks or rank in ranks}
    files = []  # (rank, name, data, error)
    if "processes" in what:
        files.append((None, "processes.json", _process_table(watcher), ""))
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for rows in pool.map(lambda pair: _of_rank(watcher, pair[0], pair[1], what), sorted(wanted.items())):
            files.extend(rows)
    now = time.time()
    records = []
    for rank, name, data, error in files:
        if data:
            layout.write_bytes(os.path.join(folder, name), data)
        records.append(_record(order, rank, name, data, error, now))
    if not records:
        records.append(_record(order, None, "processes.json", _process_table(watcher), "", now))
    records[-1]["complete"] = True
    return records


def _of_rank(watcher, rank, one, what):
    # type: (object, int, object, set) -> list
    rows = []
    about = _about(watcher, rank, one)
    stopped = one.letter in "Tt"
    begun = time.monotonic()
    if not stopped:  # a stopped process answers nobody: asking would only cost time
        try:
            _, data = side.ask(watcher.ranks_folder, rank, {"ask": "groups"}, ASK_S)
            answer = json.loads(data.decode("utf-8"))
            about.update(groups=answer["groups"], backend=answer["backend"], answered=True)
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            about["error"] = str(error) or type(error).__name__
    about["answer_s"] = round(time.monotonic() - begun, 3)
    if "flight_recorder" in what:
        rows.append(_recorder(watcher, rank, about))
    if "stacks" in what:
        rows.append(_stacks(watcher, rank, one, about["answered"]))
    rows.append((rank, "rank%d.json" % rank, json.dumps(about).encode(), ""))
    return rows


def _about(watcher, rank, one):
    # type: (object, int, object) -> dict
    ring = watcher.rings.get(rank)
    phase, phase_at = ring.phase() if ring else ("", 0.0)
    return {
        "kind": "holdfast.rank", "version": 1, "rank": rank, "world_size": ring.q[W_WORLD] if ring else None,
        "pid": one.pid, "start_time": one.start_time, "host": socket.gethostname(), "taken_at": time.time(),
        "backend": "", "groups": {}, "answered": False, "step": ring.q[W_STEP] if ring else -1,
        "stepped_at": ring.d[W_STEPPED_AT] if ring else 0.0, "phase": phase, "phase_at": phase_at,
    }  # fmt: skip


def _recorder(watcher, rank, about):
    # type: (object, int, dict) -> tuple
    name = "fr_rank%d" % rank
    if not about["answered"]:
        return rank, name, b"", "the side thread did not answer"
    try:
        head, data = side.ask(watcher.ranks_folder, rank, {"ask": "flight_recorder"}, ASK_S)
    except (OSError, ValueError) as error:
        return rank, name, b"", "the side thread did not answer: %s" % (str(error) or type(error).__name__)
    return rank, name, data, str(head.get("error", ""))


def _stacks(watcher, rank, one, answered):
    # type: (object, int, object, bool) -> tuple
    spy = py_spy()
    error = "py-spy is not installed"
    if spy is not None:
        command = [spy, "dump", "--json", "--nonblocking", "--pid", str(one.pid)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=STACKS_S,
                check=False,
            )  # fmt: skip
            if done.returncode == 0 and done.stdout.lstrip().startswith(b"["):
                return rank, "stacks_rank%d.json" % rank, done.stdout, ""
            error = done.stderr.decode("utf-8", "replace").strip()[-500:] or "py-spy ended with %d" % done.returncode
        except subprocess.TimeoutExpired:
            error = "py-spy did not end in %.0f s" % STACKS_S
        except OSError as failed:
            error = str(failed)
    if answered:
        try:
            _, data = side.ask(watcher.ranks_folder, rank, {"ask": "stacks"}, ASK_S)
            return rank, "stacks_rank%d.txt" % rank, data, ""
        except (OSError, ValueError) as failed:
            error = "%s; the side thread: %s" % (error, failed)
    return rank, "stacks_rank%d.json" % rank, b"", error


def _process_table(watcher):
    # type: (object) -> bytes
    ranks = {one.pid: rank for rank, one in watcher.by_rank().items()}
    rows = []
    for stat in watcher.tree():
        one = watcher.watched.get(stat.pid)
        rows.append({
            "pid": stat.pid, "parent": stat.parent, "rank": ranks.get(stat.pid), "name": stat.name,
            "command": processes.word(stat.pid, "cmdline")[:500], "state": stat.state,
            "wchan": processes.word(stat.pid, "wchan"), "start_time": stat.start_time, "cpu_s": stat.cpu_s,
            "io_bytes": processes.storage_bytes(stat.pid), "exit_code": None, "signal": None,
            "since": one.since if one else 0.0,
        })  # fmt: skip
    for rank, one in list(watcher.ended.items()):
        rows.append({
            "pid": one.pid, "parent": one.parent, "rank": rank, "name": one.name, "command": "", "state": "X",
            "wchan": "", "start_time": one.start_time, "cpu_s": one.cpu_s, "io_bytes": one.io_bytes,
            "exit_code": one.exit_code, "signal": one.signal, "since": one.since,
        })  # fmt: skip
    head = {"kind": "holdfast.processes", "version": 1, "host": socket.gethostname(), "taken_at": time.time()}
    return json.dumps(dict(head, processes=rows)).encode()


def _record(order, rank, name, data, error, at):
    # type: (str, object, str, bytes, str, float) -> dict
    if len(data) > _MOST_SENT:
        data, error = b"", "%d bytes are too many to be sent: it lies in the agent's folder" % len(data)
    record = {"type": "dump", "at": at, "order": order, "rank": rank, "name": name, "error": error, "complete": False}
    if name.startswith("fr_"):
        record.update(encoding="base64", data=base64.b64encode(data).decode())
    else:
        record.update(encoding="utf8", data=data.decode("utf-8", "replace"))
    return record


def _bound(root, newest):
    # type: (str, str) -> None
    """Keep the last few collections."""
    folders = [os.path.join(root, name) for name in os.listdir(root)]
    old = sorted((f for f in folders if f != newest), key=lambda f: os.stat(f).st_mtime)
    for folder in old[: max(0, len(old) - _KEPT + 1)]:
        shutil.rmtree(folder, ignore_errors=True)
