"""One job on this machine: its attempts, what is to be told of it, and where that stands."""

import contextlib
import math
import os
import socket
import subprocess
import sys
import threading
import time

from ftagent import layout, processes
from ftagent.lines import LogFile, records
from ftagent.ring import W_START, W_STEP, W_STEPPED_AT, W_WORLD
from ftagent.watch import Watcher

_KEEPER_S = 3.0


class Job:
    """The state of the job under watch.

    settings: what `agent.json` holds: command, nproc, cwd, env, umask
    lock: held for every change; the orders' thread and the main loop share this object
    """

    def __init__(self, paths, settings, pattern):
        # type: (layout.Layout, dict, object) -> None
        self.layout, self.settings, self._pattern = paths, settings, pattern
        self.lock = threading.RLock()
        self.attempt = -1
        self.state = "none"
        self.watcher = None  # type: Watcher
        self._ending = False
        self._pending = []  # records to be told
        self._earlier = []  # (attempt, records) of attempts before this one, not told yet
        self._read = {}  # rank -> (start time of its process, number of ring records taken)
        self._logs = {}  # path -> LogFile
        self._lost = 0
        self._job_record = None

    def begin(self):
        # type: () -> None
        """Adopt the attempt that runs, or ran last; start the first if there is none."""
        last = self.layout.last_attempt()
        if last < 0:
            self.start_attempt(0)
            return
        if not os.path.exists(os.path.join(self.layout.attempt(last), "spec.json")):
            self.start_attempt(last)  # the agent died before it had written down what to start
            return
        marks = layout.read_dict(self.layout.progress)
        marks = marks if marks.get("attempt") == last else {}
        self._open(last, marks)
        if marks.get("state") == "stopped":
            self.has_stopped()
            return
        if not self.watcher.keeper() and not self._keeper_comes():
            self._start_keeper(last)  # the agent died before the keeper was there
        self.state = "started"
        self._say_job("started")

    def start_attempt(self, number):
        # type: (int) -> None
        """Start the command (again)."""
        with self.lock:
            folder = self.layout.attempt(number)
            layout.make_folder(self.layout.ranks(number))
            layout.make_folder(self.layout.log_folder(number))
            env = dict(self.settings["env"], FTAGENT_DIR=self.layout.ranks(number))
            ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
            env["PYTHONPATH"] = os.pathsep.join(part for part in (env.get("PYTHONPATH"), ours) if part)
            spec = dict(self.settings, env=env, logs=self.layout.log_folder(number), port=_free_port(), attempt=number)
            layout.write_json(os.path.join(folder, "spec.json"), spec)
            self._set_aside(time.time())
            self._open(number, {})
            self._start_keeper(number)
            self.state = "started"
            self._say_job("started")

    def has_stopped(self):
        # type: () -> None
        """The job was ended by an order and is not started again."""
        with self.lock:
            self.state = "stopped"
            self._say_job("stopped")

    @contextlib.contextmanager
    def ending(self):
        # type: () -> object
        """While an order ends the processes their end is no news."""
        self._ending = True
        try:
            yield
        finally:
            self._ending = False

    def say(self, records_):
        # type: (list) -> None
        """Have something told."""
        with self.lock:
            self._pending.extend(records_)

    def look(self, now):
        # type: (float) -> bool
        """One look at the processes; whether there is news that should not wait."""
        with self.lock:
            found = self.watcher.look(now)
            self._pending.extend(found)
            return self._look_for_end(now) or bool(found)

    def take(self, now, anew=False):
        # type: (float, bool) -> list
        """Everything to be told now: [(attempt, records)]. anew: also what was told before, for a service that forgot."""
        with self.lock:
            self._pending.extend(self._steps(now))
            for file in self._log_files():
                self._pending.extend(records(file, file.read(self._pattern), now))
            again = [self._job_record, *self.watcher.all_records(now)] if anew and self._job_record else []
            told = [*self._earlier, (self.attempt, [self._beat(now), *again, *self._pending])]
            self._earlier, self._pending = [], []
            return told

    def take_lost(self):
        # type: () -> int
        """How many steps' records were overwritten before they were read, since this was asked last."""
        with self.lock:
            lost, self._lost = self._lost, 0
            return lost

    def save(self):
        # type: () -> None
        """Keep what was told, so that the next agent goes on from there."""
        kept = {
            "attempt": self.attempt, "state": self.state, "read": self._read, "ended": self.watcher.ended_rows(),
            "logs": {path: file.mark() for path, file in self._logs.items()},
        }  # fmt: skip
        layout.write_json(self.layout.progress, kept)

    def is_over(self):
        # type: () -> bool
        return self.state in ("finished", "failed", "stopped")

    def status(self):
        # type: () -> int
        """The job's exit status as a shell tells it (128 + signal if killed); 0 while it runs on without this agent."""
        ended = layout.read_dict(os.path.join(self.layout.attempt(self.attempt), "ended.json")) if self.is_over() else {}
        code, killed_by = ended.get("exit_code", 0), ended.get("signal")
        return 128 + killed_by if killed_by else code if code is not None else 1

    # --- its parts

    def _open(self, number, marks):
        # type: (int, dict) -> None
        if self.watcher is not None:
            self.watcher.close()
        self.attempt = number
        self.watcher = Watcher(self.layout.attempt(number), marks.get("ended") or ())
        self._read = {int(rank): (started, count) for rank, (started, count) in (marks.get("read") or {}).items()}
        self._logs, self._marks = {}, dict(marks.get("logs") or {})

    def _start_keeper(self, number):
        # type: (int) -> None
        log = os.path.join(self.layout.attempt(number), "keeper.log")
        env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with open(log, "ab") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "ftagent.keeper", self.layout.attempt(number)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env, cwd="/",
            )  # fmt: skip
        threading.Thread(target=child.wait, daemon=True).start()  # so that it is no zombie while this agent lives
        self._keeper_comes()

    def _keeper_comes(self):
        # type: () -> bool
        deadline = time.monotonic() + _KEEPER_S
        while not self.watcher.keeper().get("ready"):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _look_for_end(self, now):
        # type: (float) -> bool
        if self.state != "started" or self._ending:
            return False
        ended = layout.read_dict(os.path.join(self.layout.attempt(self.attempt), "ended.json"))
        if not ended:
            keeper = self.watcher.keeper()
            if not keeper or processes.alive(keeper["pid"], keeper["start_time"]) or self.watcher.tree():
                return False
            ended = {"exit_code": None, "signal": None, "at": now}  # the keeper itself was killed
        self._pending.extend(self.watcher.look(now))  # how its processes ended stands before the job's own end
        self._pending.extend(self._steps(now))
        for file in self._log_files():
            self._pending.extend(records(file, file.read_to_end(self._pattern), now))
            self._pending.extend(records(file, file.last(), now))
        self.state = "finished" if ended.get("exit_code") == 0 else "failed"
        self._say_job(self.state, ended)
        return True

    def _set_aside(self, now):
        # type: (float) -> None
        """An attempt is over: what is still to be told of it is told as of that attempt."""
        if self.watcher is None:
            return
        self._pending.extend(self._steps(now))
        for file in self._log_files():
            self._pending.extend(records(file, file.read_to_end(self._pattern), now))
        self._earlier.append((self.attempt, self._pending))
        self._pending = []

    def _say_job(self, state, ended=None):
        # type: (str, object) -> None
        ended = ended or {}
        worlds = [ring.q[W_WORLD] for ring in self.watcher.rings.values()]
        self._job_record = {
            "type": "job", "at": ended.get("at") or time.time(), "state": state, "attempt": self.attempt,
            "exit_code": ended.get("exit_code"), "signal": ended.get("signal"),
            "world_size": max(worlds, default=None), "pid": self.watcher.keeper().get("pid", 0),
        }  # fmt: skip
        self._pending.append(self._job_record)

    def _beat(self, now):
        # type: (float) -> dict
        children = {}  # type: dict
        for one in self.watcher.watched.values():
            children.setdefault(one.parent, []).append(one)
        ranks = []
        for rank, one in sorted(self.watcher.by_rank().items()):
            ring = self.watcher.rings.get(rank)
            phase, phase_at = ring.phase() if ring else ("", 0.0)
            mine = [one, *children.get(one.pid, ())]
            one.io_bytes = sum(processes.storage_bytes(each.pid) for each in mine)
            ranks.append({
                "rank": rank, "step": ring.q[W_STEP] if ring else -1,
                "stepped_at": _finite(ring.d[W_STEPPED_AT]) if ring else 0.0, "phase": phase,
                "phase_at": _finite(phase_at), "cpu_s": round(sum(each.cpu_s for each in mine), 3), "io_bytes": one.io_bytes,
            })  # fmt: skip
        return {"type": "beat", "at": now, "ranks": ranks}

    def _steps(self, now):
        # type: (float) -> list
        rows, names = [], {}
        replaced, self.watcher.replaced = self.watcher.replaced, []
        for rank, ring in [*replaced, *sorted(self.watcher.rings.items())]:
            begun = ring.q[W_START]
            started, count = self._read.get(rank, (begun, 0))
            found, count, lost = ring.records(count if started == begun else 0)
            self._read[rank] = begun, count
            self._lost += lost
            for step, ended_at, values in found:
                rows.append((rank, step, ended_at, values))
                for name, value in values.items():
                    names.setdefault(name, len(names))
                    if not math.isfinite(value):
                        names.setdefault(name + "_nan", len(names))
        if not rows:
            return []
        signals = list(names)
        values = [[_told(row, name) for name in signals] for _, _, _, row in rows]
        return [{
            "type": "steps", "at": now, "ranks": [row[0] for row in rows], "steps": [row[1] for row in rows],
            "ended_at": [_finite(row[2]) for row in rows], "signals": signals, "values": values,
        }]  # fmt: skip

    def _log_files(self):
        # type: () -> list
        folder = self.layout.log_folder(self.attempt)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if path not in self._logs:
                rank = name[4:-4] if name.startswith("rank") and name.endswith(".log") else ""
                shown = os.path.join("attempt-%d" % self.attempt, name)
                self._logs[path] = LogFile(
                    path, shown, int(rank) if rank.isdigit() else None, self._marks.get(path) or {}
                )
        return list(self._logs.values())


def _told(row, name):
    # type: (dict, str) -> object
    """A value as JSON can say it: a real NaN or infinity is told beside it, as `<name>_nan` 1."""
    value = row.get(name)
    if value is None and name.endswith("_nan"):
        bad = row.get(name[: -len("_nan")])
        return 1.0 if bad is not None and not math.isfinite(bad) else 0.0
    return value if value is not None and math.isfinite(value) else None


def _finite(value):
    # type: (float) -> float
    """A time as JSON can say it: a NaN that a broken process left in its ring must not cost the whole batch."""
    return value if math.isfinite(value) else 0.0


def _free_port():
    # type: () -> int
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
