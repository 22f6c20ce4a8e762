"""Watches the processes of one attempt: which are ranks, what state each is in, and how each ends."""

import os
import select
import time

from ftagent import layout, processes
from ftagent.ring import W_PID, W_RANK, W_START, Ring, RingError

_STATES = {"T": "stopped", "t": "stopped", "D": "uninterruptible", "Z": "zombie", "X": "gone"}
_UNTOLD = ""
_SCAN_S = 1.0

# A process passes through D all the time; only one found there again and again sits there.
_SITS = 3


# What is kept of a rank that is no more.
_ROW = (
    "pid", "start_time", "name", "parent", "rank", "state", "since", "exit_code", "signal", "cpu_s", "io_bytes",
)  # fmt: skip


class Watched:
    """One process. since: when its state began; seen: how often in a row it was found in a state not told yet.

    met_at: when it was first seen alive, 0.0 if it was over before that
    """

    def __init__(self, pid, start_time, rank, now):
        # type: (int, int, object, float) -> None
        self.pid, self.start_time, self.rank = pid, start_time, rank
        self.name, self.parent, self.letter = "", 0, "R"
        self.state, self.since, self.met_at = "running", now, 0.0  # state: as last told
        self.exit_code = self.signal = None
        self.found, self.seen, self.found_at = "running", 0, now
        self.cpu_s, self.io_bytes = 0.0, 0
        self.fd = None

    @classmethod
    def of_row(cls, row):
        # type: (dict) -> Watched
        one = cls(row["pid"], row["start_time"], row["rank"], row["since"])
        for field in _ROW:
            setattr(one, field, row[field])
        return one

    def row(self):
        # type: () -> dict
        """As it is kept between two agents."""
        return {field: getattr(self, field) for field in _ROW}

    def see(self, stat):
        # type: (processes.Stat) -> None
        self.name, self.parent, self.cpu_s, self.letter = stat.name, stat.parent, stat.cpu_s, stat.state

    def record(self, at):
        # type: (float) -> dict
        """The state as the service is told of it."""
        return {
            "type": "process", "at": at, "rank": self.rank, "pid": self.pid, "start_time": self.start_time,
            "name": self.name, "state": self.state or "running", "exit_code": self.exit_code, "signal": self.signal,
            "since": self.since, "parent": self.parent,
            "wchan": processes.word(self.pid, "wchan") if self.state == "uninterruptible" else "",
        }  # fmt: skip


class Watcher:
    """The process tree below one attempt's keeper.

    ended: rows of ranks of which an earlier agent has told how they ended
    replaced: (rank, ring) of ranks that were started anew, until somebody has read what is left in it
    """

    def __init__(self, folder, ended=()):
        # type: (str, object) -> None
        self.folder = folder
        self.ranks_folder = os.path.join(folder, "ranks")
        self.watched = {}  # pid -> Watched
        self.ended = {row["rank"]: Watched.of_row(row) for row in ended}  # rank -> Watched, those that are no more
        self.rings = {}  # rank -> Ring
        self.replaced = []
        self._poll = select.poll()
        self._scanned_at = 0.0

    def keeper(self):
        # type: () -> dict
        return layout.read_dict(os.path.join(self.folder, "keeper.json"))

    def has_begun(self):
        # type: () -> bool
        """Whether the keeper starts no more processes: all are there, or it is no more itself."""
        keeper = self.keeper()
        return bool(keeper.get("ready")) or not processes.alive(keeper.get("pid", 0), keeper.get("start_time", 0))

    def wait(self, seconds):
        # type: (float) -> bool
        """Sleep, but no longer than until a watched process dies; whether one did."""
        return bool(self._poll.poll(seconds * 1000))

    def look(self, now):
        # type: (float) -> list
        """One look: the records of what has changed."""
        records = []
        if not 0.0 <= now - self._scanned_at < _SCAN_S or not self.watched:
            self._scanned_at = now
            self._find(now)
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

    def ended_rows(self):
        # type: () -> list
        return [one.row() for one in self.ended.values()]

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
        # a list first: the orders' thread asks while the main loop finds and forgets
        return {one.rank: one for one in list(self.watched.values()) if one.rank is not None}

    def close(self):
        # type: () -> None
        for one in list(self.watched.values()):
            self._forget(one)
        for ring in self.rings.values():
            ring.close()
        self.rings = {}

    def _find(self, now):
        # type: (float) -> None
        """Take in who is new."""
        self._open_rings()
        registered = {ring.q[W_PID]: rank for rank, ring in self.rings.items()}
        tree = self.tree()
        inside = {one.pid for one in tree}
        for stat in tree:
            one = self.watched.get(stat.pid)
            if one is None and stat.state not in "ZX":
                one = self._meet(stat, now)
                self._is_rank(one, self._rank_by_environment(stat, inside))
            if one is not None and one.start_time == stat.start_time and stat.pid in registered:
                self._is_rank(one, registered[stat.pid])
        self._find_over(registered, now)

    def _meet(self, stat, now):
        # type: (processes.Stat, float) -> Watched
        one = self.watched[stat.pid] = Watched(stat.pid, stat.start_time, None, now)
        one.see(stat)
        one.met_at = now
        one.fd = _open(stat.pid)
        if one.fd is not None:
            self._poll.register(one.fd, select.POLLIN)
        return one

    def _is_rank(self, one, rank):
        # type: (Watched, object) -> None
        if rank is not None and one.rank != rank:
            one.rank, one.state = rank, _UNTOLD
            self.ended.pop(rank, None)

    def _find_over(self, registered, now):
        # type: (dict, float) -> None
        """Watch ranks that began and ended while nobody looked: the next look at them finds that they are over."""
        began = {rank: (pid, self.rings[rank].q[W_START]) for pid, rank in registered.items()}
        for row in self.keeper().get("children", ()):
            number = row["name"][len("rank") :]
            if row["name"].startswith("rank") and number.isdecimal():
                began.setdefault(int(number), (row["pid"], row["start_time"]))
        met = {one.rank for one in self.watched.values()}
        for rank, (pid, started) in began.items():
            told = self.ended.get(rank)
            if rank in met or pid in self.watched or (told is not None and told.start_time == started):
                continue
            if not processes.alive(pid, started):
                self.watched[pid] = Watched(pid, started, rank, now)

    def _rank_by_environment(self, one, inside):
        # type: (processes.Stat, set) -> object
        """RANK of a process whose parent has none: the parent's is inherited by helpers of the same rank.

        A rank with a ring has said itself which process it is.
        """
        rank = processes.environment(one.pid).get("RANK", "")
        if not rank.isdecimal() or int(rank) in self.rings:
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
            if name.startswith("rank") and name.endswith(".ring") and number.isdecimal():
                self._open_ring(int(number), os.path.join(self.ranks_folder, name))

    def _open_ring(self, rank, path):
        # type: (int, str) -> None
        old = self.rings.get(rank)
        try:
            if old is not None and os.stat(path).st_ino == old.inode:
                return
            ring = Ring(path)
        except (OSError, RingError):
            return  # still being made
        if ring.q[W_RANK] != rank:
            ring.close()
            return
        if old is not None:
            self.replaced.append((rank, old))
        for one in self.watched.values():
            if one.rank == rank and one.pid != ring.q[W_PID]:
                one.rank = None  # its parent, known by its environment alone, or the process before it
        self.rings[rank] = ring

    def _look_at(self, one, now):
        # type: (Watched, float) -> bool
        """Read one process; whether there is news of it."""
        stat = processes.stat(one.pid)
        if stat is None or stat.start_time != one.start_time:
            return self._is_over(one, now, None)
        if stat.state in "ZX":
            # how it ended stands in its last line until its parent has asked
            return self._is_over(one, now, stat.exit_status)
        one.see(stat)
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
        if note and note.get("at", now) >= one.met_at:  # else it is of an earlier process with this number
            one.exit_code, one.signal, one.since = note.get("exit_code"), note.get("signal"), note.get("at", now)
        elif status is not None:
            (one.exit_code, one.signal), one.since = processes.how_it_ended(status), now
        else:
            one.since = now
        one.state = "gone" if one.exit_code is None and one.signal is None else "exited"
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
        if not tree and watcher.has_begun():
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
