"""Watches the processes of one attempt: which are ranks, what state each is in, and how each ends."""

import os
import select
import time

from ftagent import layout, processes
from ftagent.ring import W_PID, W_RANK, Ring, RingError

_STATES = {"T": "stopped", "t": "stopped", "D": "uninterruptible", "Z": "zombie", "X": "gone"}
_SCAN_S = 1.0

# A process passes through D all the time; only one found there again and again sits there.
_SITS = 3


class Watched:
    """One process. since: when its state began; seen: how often in a row it was found in a state not told yet."""

    def __init__(self, stat, rank, now):
        # type: (processes.Stat, object, float) -> None
        self.pid, self.start_time, self.name, self.parent = stat.pid, stat.start_time, stat.name, stat.parent
        self.rank = rank
        self.state, self.since = "running", now
        self.exit_code = self.signal = None
        self.found, self.seen, self.found_at = "running", 0, now
        self.cpu_s, self.io_bytes = stat.cpu_s, 0
        self.letter = stat.state
        self.fd = _open(stat.pid)

    def record(self, at):
        # type: (float) -> dict
        """The state as the service is told of it."""
        return {
            "type": "process", "at": at, "rank": self.rank, "pid": self.pid, "start_time": self.start_time,
            "name": self.name, "state": self.state, "exit_code": self.exit_code, "signal": self.signal,
            "since": self.since, "parent": self.parent,
            "wchan": processes.word(self.pid, "wchan") if self.state == "uninterruptible" else "",
        }  # fmt: skip


class Watcher:
    """The process tree below one attempt's keeper."""

    def __init__(self, folder):
        # type: (str) -> None
        self.folder = folder
        self.ranks_folder = os.path.join(folder, "ranks")
        self.watched = {}  # pid -> Watched
        self.ended = {}  # rank -> Watched, those that are no more
        self.rings = {}  # rank -> Ring
        self._poll = select.poll()
        self._scanned_at = 0.0
        self._unranked = set()

    def keeper(self):
        # type: () -> dict
        return layout.read_dict(os.path.join(self.folder, "keeper.json"))

    def wait(self, seconds):
        # type: (float) -> bool
        """Sleep, but no longer than until a watched process dies; whether one did."""
        return bool(self._poll.poll(seconds * 1000))

    def look(self, now):
        # type: (float) -> list
        """One look: the records of what has changed."""
        if now - self._scanned_at >= _SCAN_S or not self.watched:
            self._scanned_at = now
            self._find(now)
        records = []
        for one in list(self.watched.values()):
            if self._look_at(one, now):
                if one.rank is not None or one.parent == self.keeper().get("pid") or one.state != "gone":
                    records.append(one.record(now))
                if one.state in ("exited", "gone"):
                    self._forget(one)
        return sorted(records, key=lambda record: record["since"])

    def all_records(self, now):
        # type: (float) -> list
        """The present state of every rank, for a service that has to be told anew."""
        known = [one for one in self.watched.values() if one.rank is not None]
        return [one.record(now) for one in (*self.ended.values(), *known)]

    def tree(self):
        # type: () -> list
        """Everything alive of this attempt, children after their parents."""
        known = processes.everybody()
        keeper = self.keeper()
        if keeper and processes.alive(keeper.get("pid", 0), keeper.get("start_time", 0)):
            return processes.below({keeper["pid"]}, known)
        # the keeper is gone: its processes are known by what they were started with
        mine = [one for one in known.values() if processes.environment(one.pid).get("FTAGENT_DIR") == self.ranks_folder]
        return [one for one in mine if one.pid != os.getpid()]

    def by_rank(self):
        # type: () -> dict
        """The living process of each rank."""
        return {one.rank: one for one in self.watched.values() if one.rank is not None}

    def close(self):
        # type: () -> None
        for one in list(self.watched.values()):
            self._forget(one)
        for ring in self.rings.values():
            ring.close()
        self.rings = {}

    def _find(self, now):
        # type: (float) -> None
        self._open_rings()
        registered = {ring.q[W_PID]: rank for rank, ring in self.rings.items()}
        tree = self.tree()
        inside = {one.pid for one in tree}
        for one in tree:
            if one.pid in self.watched and self.watched[one.pid].start_time == one.start_time:
                if one.pid in registered:
                    self.watched[one.pid].rank = registered[one.pid]
                continue
            if one.state in "ZX":
                continue
            rank = registered.get(one.pid)
            if rank is None:
                rank = self._rank_by_environment(one, inside)
            found = self.watched[one.pid] = Watched(one, rank, now)
            if found.fd is not None:
                self._poll.register(found.fd, select.POLLIN)

    def _rank_by_environment(self, one, inside):
        # type: (processes.Stat, set) -> object
        """RANK of a process whose parent has none: the parent's is inherited by helpers of the same rank."""
        rank = processes.environment(one.pid).get("RANK", "")
        if not rank.isdigit():
            return None
        if one.parent in inside and processes.environment(one.parent).get("RANK", "") == rank:
            return None
        return int(rank)

    def _open_rings(self):
        # type: () -> None
        try:
            names = os.listdir(self.ranks_folder)
        except OSError:
            return
        for name in names:
            number = name[len("rank") : -len(".ring")]
            if (
                name.startswith("rank")
                and name.endswith(".ring")
                and number.isdigit()
                and int(number) not in self.rings
            ):
                try:
                    ring = Ring(os.path.join(self.ranks_folder, name))
                except (OSError, RingError):
                    continue  # still being made
                if ring.q[W_RANK] == int(number):
                    self.rings[int(number)] = ring
                else:
                    ring.close()

    def _look_at(self, one, now):
        # type: (Watched, float) -> bool
        """Read one process; whether there is news of it."""
        stat = processes.stat(one.pid)
        if stat is None or stat.start_time != one.start_time:
            return self._is_over(one, now, None)
        if stat.state in "ZX":
            # how it ended stands in its last line until its parent has asked
            return self._is_over(one, now, stat.exit_status)
        one.name, one.parent, one.cpu_s, one.letter = stat.name, stat.parent, stat.cpu_s, stat.state
        state = _STATES.get(stat.state, "running")
        if state != one.found:
            one.found, one.seen, one.found_at = state, 0, now
        one.seen += 1
        if state == one.state or (state == "uninterruptible" and one.seen < _SITS):
            return False
        one.state, one.since = state, one.found_at
        return True

    def _is_over(self, one, now, status):
        # type: (Watched, float, object) -> bool
        note = layout.read_dict(os.path.join(self.folder, "exit-%d.json" % one.pid))
        if note:
            one.exit_code, one.signal, one.since = note.get("exit_code"), note.get("signal"), note.get("at", now)
        elif status is not None:
            (one.exit_code, one.signal), one.since = processes.how_it_ended(status), now
        else:
            one.since = now
        one.state = "exited" if note or status is not None else "gone"
        return True

    def _forget(self, one):
        # type: (Watched) -> None
        if one.fd is not None:
            self._poll.unregister(one.fd)
            os.close(one.fd)
            one.fd = None
        self.watched.pop(one.pid, None)
        if one.rank is not None and one.state in ("exited", "gone"):
            self.ended[one.rank] = one


def _open(pid):
    # type: (int) -> object
    """A descriptor that tells of the process's death (Linux 5.3, Python 3.9), None where there is none."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def end_tree(watcher, grace_s, now=time.monotonic, sleep=time.sleep):
    # type: (Watcher, float, object, object) -> list
    """End every process of an attempt: SIGCONT and SIGTERM, after `grace_s` SIGKILL; return pids that would not go."""
    deadline = now() + grace_s
    told = set()
    while True:
        tree = [one for one in watcher.tree() if one.state not in "ZX"]
        if not tree:
            return []
        late = now() >= deadline
        for one in tree:
            if late:
                _signal(one.pid, 9)
            elif one.pid not in told:
                told.add(one.pid)
                _signal(one.pid, 15)
                _signal(one.pid, 18)  # a stopped process hears SIGTERM only once it goes on
        if now() >= deadline + 10.0:
            return [one.pid for one in tree]  # in the kernel for good (state D): not even SIGKILL ends it
        sleep(0.1)


def _signal(pid, number):
    # type: (int, int) -> None
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it is gone already
