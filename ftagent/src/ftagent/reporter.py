"""`step` and `phase`: what the training script calls."""

import os
import sys
import warnings
from collections import deque
from time import time

from ftagent import processes
from ftagent.ring import (
    COLUMNS,
    MAGIC,
    NAMES_AT,
    PHASE_NAMES,
    PHASES_AT,
    RECORD_WORDS,
    RING_AT,
    SLOTS,
    W_MAGIC,
    W_NAMES,
    W_PHASE,
    W_PHASE_AT,
    W_PHASES,
    W_PID,
    W_RANK,
    W_START,
    W_STEP,
    W_STEPPED_AT,
    W_WORLD,
    W_WRITTEN,
    Ring,
    RingError,
)

_RING_BASE = RING_AT // 8
_DEVICE_TIMES = 1024


class Silent:
    """No agent is beside this process: the calls do nothing."""

    def step(self, n=None, /, **numbers):
        # type: (object, object) -> None
        """Report that step `n` has ended, with any numbers about it."""

    def phase(self, name, device=False):
        # type: (str, bool) -> Silent
        """`with phase("evaluation"):` announces what the job does until the block ends."""
        return self

    def __enter__(self):
        # type: () -> Silent
        return self

    def __exit__(self, *error):
        # type: (object) -> None
        return None


class _Phase:
    """One `with` block."""

    __slots__ = ("began", "device", "index", "outer", "outer_at", "reporter")

    def __init__(self, reporter, index, device):
        # type: (Reporter, int, object) -> None
        self.reporter = reporter
        self.index = index
        self.device = device

    def __enter__(self):
        # type: () -> _Phase
        reporter = self.reporter
        if reporter.alive:
            q, d = reporter.q, reporter.d
            self.outer = q[W_PHASE]
            self.outer_at = d[W_PHASE_AT]
            self.began = d[W_PHASE_AT] = time()
            q[W_PHASE] = self.index
            if self.device is not None:
                self.device.begin()
        return self

    def __exit__(self, *error):
        # type: (object) -> None
        reporter = self.reporter
        if reporter.alive:
            if self.device is not None:
                self.device.end()
            spent = reporter.spent
            spent[self.index] = spent.get(self.index, 0.0) + time() - self.began
            reporter.d[W_PHASE_AT] = self.outer_at
            reporter.q[W_PHASE] = self.outer


class Reporter:
    """Writes one rank's ring. A process that was forked from it (a DataLoader worker) writes nothing."""

    def __init__(self, folder, rank, world_size):
        # type: (str, int, int) -> None
        self.folder, self.rank = folder, rank
        self._ring = Ring(os.path.join(folder, "rank%d.ring" % rank), create=True)
        self.q, self.d = self._ring.q, self._ring.d
        self.alive = True
        self.spent = {}  # phase index -> seconds since the last step
        self._columns = {}  # name -> column
        self._phases = {}  # name -> index, from 1
        self._phase_columns = {}  # phase index -> column
        self._devices = {}
        self._device_times = deque(maxlen=_DEVICE_TIMES)  # type: deque  # the side thread puts in, `step` takes out
        self._warned = set()
        self._none = Silent()
        self.q[W_PID], self.q[W_START] = os.getpid(), processes.start_time(os.getpid())
        self.q[W_RANK], self.q[W_WORLD], self.q[W_STEP] = rank, world_size, -1
        self._previous = time()
        self.q[W_MAGIC] = MAGIC
        os.register_at_fork(after_in_child=self._forked)

    def step(self, n=None, /, **numbers):
        # type: (object, object) -> None
        """Report that step `n` has ended, with any numbers about it: `step(n, loss=float(loss), tokens=4096)`.

        Numbers only: a tensor is not read, because that would wait for the device; it is left out, with one warning.
        """
        if not self.alive:
            return
        if type(n) is not int:
            n = self._whole(n, numbers)
            if n is None:
                return
        now = time()
        q, d = self.q, self.d
        written = q[W_WRITTEN]
        base = _RING_BASE + (written % SLOTS) * RECORD_WORDS
        columns = self._columns
        at = base + 3
        d[at] = now - self._previous  # column 0 is step_s
        self._previous = now
        mask = 1
        for name, given in numbers.items():
            kind = type(given)
            value = given if kind is float or kind is int else self._plain(name, given)
            if value is None:
                continue
            column = columns.get(name)
            if column is None:
                column = self._column(name)
                if column < 0:
                    continue
            try:
                d[at + column] = value
            except (OverflowError, TypeError, ValueError):
                continue
            mask |= 1 << column
        if self.spent or self._device_times:
            mask |= self._write_phases(at)
        if -9223372036854775808 <= n <= 9223372036854775807:
            q[base] = n
            d[base + 1] = now
            q[base + 2] = mask
            q[W_STEP] = n
            d[W_STEPPED_AT] = now
            q[W_WRITTEN] = written + 1

    def phase(self, name, device=False):
        # type: (str, bool) -> object
        """`with phase("evaluation"):` announces what the job does until the block ends.

        device: also time the block on the CUDA stream, where torch has one; the events are read later by the side
        thread, because host timers would only measure launches.
        """
        index = self._phases.get(name) if type(name) is str else None
        if index is None:
            index = self._phase_index(name)
            if not index:
                return self._none
        # `is True`: to ask a tensor whether it is true would wait for the device
        return _Phase(self, index, self._device(str.__str__(name)) if device is True else None)

    def add_device_time(self, name, seconds):
        # type: (str, float) -> None
        """Called by the side thread when a block's events have been read; the next step tells it."""
        self._device_times.append((name, seconds))

    def device_timers(self):
        # type: () -> list
        return list(self._devices.values())

    def _write_phases(self, at):
        # type: (int) -> int
        mask = 0
        while self._device_times:
            name, seconds = self._device_times.popleft()
            index = self._phase_index(name + ".device")
            if index:
                self.spent[index] = self.spent.get(index, 0.0) + seconds
        for index in list(self.spent):
            column = self._phase_columns.get(index)
            if column is None:
                name = self._ring.name(PHASES_AT, index - 1)
                column = self._phase_columns[index] = self._column("phase.%s_s" % name)
            spent = self.spent.pop(index, 0.0)
            if column >= 0:
                self.d[at + column] = spent
                mask |= 1 << column
        return mask

    def _column(self, name):
        # type: (str) -> int
        if not self._columns:
            self._add_column("step_s")
        if name not in self._columns:
            if len(self._columns) >= COLUMNS:
                self._warn(name, "is one number too many, a rank has %d" % COLUMNS)
                return -1
            self._add_column(name)
        return self._columns[name]

    def _add_column(self, name):
        # type: (str) -> None
        used = len(self._columns)
        self._ring.put_name(NAMES_AT, used, name)
        self._columns[name] = used
        self.q[W_NAMES] = used + 1

    def _phase_index(self, name):
        # type: (object) -> int
        if not issubclass(type(name), str) or not self.alive:
            return 0
        name = str.__str__(name)
        if name not in self._phases:
            if len(self._phases) >= PHASE_NAMES:
                return 0
            self._ring.put_name(PHASES_AT, len(self._phases), name)
            self._phases[name] = len(self._phases) + 1
            self.q[W_PHASES] = len(self._phases)
        return self._phases[name]

    def _device(self, name):
        # type: (str) -> object
        if name not in self._devices:
            from ftagent.device import timer

            self._devices[name] = timer(name, self)
        return self._devices[name]

    def _whole(self, n, numbers):
        # type: (object, dict) -> object
        """A step's number that is no plain int, as one; None with a warning if it is no whole number."""
        if n is None:
            n = numbers.pop("n", None)  # as `step(n=7)`
        if issubclass(type(n), int):
            return int.__index__(n)
        self._warn("step", "is %s, not a whole number" % type(n).__name__)
        return None

    def _plain(self, name, value):
        # type: (str, object) -> object
        """A number of another class than int and float, as one of these; None with a warning if it is no number.

        Asked by its type alone: what an object says of itself may run anybody's code.
        """
        kind = type(value)
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, int):
            return int.__index__(value)
        self._warn(name, "is %s, not a number" % kind.__name__)
        return None

    def _warn(self, name, reason):
        # type: (str, str) -> None
        if name in self._warned or len(self._warned) >= 64:
            return
        self._warned.add(name)
        try:
            warnings.warn("ftagent: %s %s: not reported" % (name, reason), RuntimeWarning, stacklevel=4)
        except (RuntimeWarning, OSError, ValueError):
            pass  # warnings are errors here, or there is nowhere to say it

    def _forked(self):
        # type: () -> None
        self.alive = False


def _number(name, otherwise):
    # type: (str, int) -> int
    try:
        return int(os.environ.get(name, ""))
    except ValueError:
        return otherwise


def _is_taken(path):
    # type: (str) -> bool
    try:
        ring = Ring(path)
    except (OSError, RingError):
        return False
    pid, started = ring.q[W_PID], ring.q[W_START]
    ring.close()
    return pid != os.getpid() and processes.alive(pid, started)


def current():
    # type: () -> object
    """The reporter of this process: silent where no agent has left its folder in the environment, or none of use.

    Silent too where a living process speaks for this rank already: whom a rank starts anew, as DataLoader workers by
    `spawn`, inherits its number and imports its script.
    """
    folder, rank = os.environ.get("FTAGENT_DIR", ""), _number("RANK", 0)
    if not folder or not os.path.isdir(folder) or _is_taken(os.path.join(folder, "rank%d.ring" % rank)):
        return Silent()
    try:
        reporter = Reporter(folder, rank, _number("WORLD_SIZE", 1))
    except (OSError, ValueError, AttributeError) as error:
        sys.stderr.write("ftagent: no reports from here: %s\n" % error)
        return Silent()
    reporter._column("step_s")
    from ftagent.side import start

    start(reporter)
    return reporter
