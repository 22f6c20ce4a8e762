"""Carries out the service's orders, each once, however often it comes and however often the agent dies."""

import logging
import queue
import threading
import time

from ftagent import collect, layout
from ftagent.watch import end_tree

log = logging.getLogger("ftagent")

_KEPT = 200
_MOST_WAITING = 200
_AGAIN_S = 5.0
_GRACE_S = 5.0


class Orders(threading.Thread):
    """One order after the other, on a thread of its own; what became of each is on disk before it is told."""

    def __init__(self, job, tell=lambda: None):
        # type: (object, object) -> None
        """tell: puts what is to be told where it survives the agent's end."""
        super().__init__(name="ftagent-orders", daemon=True)
        self._job, self._tell = job, tell
        self._path = job.layout.orders
        self._known = {id: one for id, one in layout.read_dict(self._path).items() if _is_known(one)}
        self._line = queue.Queue()  # type: queue.Queue
        self._waiting = set()
        self._told_at = {}

    def hear(self, orders):
        # type: (list) -> None
        """Take orders in; one that is done is only reported again, one that waits or is under way is left alone."""
        for order in orders:
            id = order.get("id")
            if not isinstance(id, str) or not id or id in self._waiting:
                continue
            outcome = self._known.get(id, {}).get("outcome")
            if outcome is None:
                if len(self._waiting) < _MOST_WAITING:  # else it comes again
                    self._waiting.add(id)
                    self._line.put(order)
            elif time.monotonic() - self._told_at.get(id, 0.0) > _AGAIN_S:
                self._told_at[id] = time.monotonic()
                self._job.say([outcome])

    def run(self):
        # type: () -> None
        while True:
            order = self._line.get()
            id, verb = order["id"], order.get("verb")
            begun = self._known.get(id) or {"attempt": self._job.attempt}
            self._save(id, begun)
            log.info("order %s", id)
            carry_out = _VERBS.get(verb, _refuse) if isinstance(verb, str) else _refuse
            try:
                done, refused, note = carry_out(self._job, order, begun["attempt"])
            except OSError as error:
                done, refused, note = False, False, "the machine says no: %s" % error
            except (ValueError, TypeError, LookupError, RuntimeError) as error:  # this thread must live for the next
                log.exception("order %s", id)
                done, refused, note = False, False, "%s: %s" % (type(error).__name__, error)
            self._tell()  # what was collected, before it counts as done: it would never be collected again
            outcome = {"type": "outcome", "at": time.time(), "order": id}
            outcome.update(done=done, refused=refused, note=note)
            self._save(id, dict(begun, outcome=outcome))
            self._told_at[id] = time.monotonic()
            self._job.say([outcome])
            self._waiting.discard(id)

    def _save(self, id, state):
        # type: (str, dict) -> None
        self._known[id] = state
        for old in list(self._known)[: max(0, len(self._known) - _KEPT)]:
            del self._known[old]
            self._told_at.pop(old, None)
        try:
            layout.write_json(self._path, self._known)
        except OSError as error:
            log.warning("order %s is not kept: %s", id, error)


def _is_known(state):
    # type: (object) -> bool
    """Whether this is what `_save` has written of an order; anything else in the file is as if it were not there."""
    return (
        isinstance(state, dict)
        and isinstance(state.get("attempt"), int)
        and (isinstance(state.get("outcome"), (dict, type(None))))
    )


def _refuse(job, order, attempt):
    # type: (object, dict, int) -> tuple
    return False, True, "not something this agent can do"


def _collect(job, order, attempt):
    # type: (object, dict, int) -> tuple
    arguments = order.get("arguments") if isinstance(order.get("arguments"), dict) else {}
    what = set(str(arguments.get("what") or "stacks,flight_recorder,processes").split(","))
    targets = order.get("targets") if isinstance(order.get("targets"), list) else []
    ranks = {int(rank) for rank in targets if str(rank).isdecimal()}
    records = collect.collect(job.watcher, order["id"], what, ranks, job.layout.collection(order["id"]))
    job.say(records)
    failed = [record for record in records if record["error"]]
    return True, False, "%d files, %d missing" % (len(records) - len(failed), len(failed))


def _restart(job, order, attempt):
    # type: (object, dict, int) -> tuple
    if job.attempt > attempt:  # an agent before this one did it and died before it could say so
        return True, False, "attempt %d runs" % job.attempt
    with job.ending():
        left = end_tree(job.watcher, _grace(order))
        if left:
            return False, False, "processes %s cannot be ended (in the kernel)" % left
        job.start_attempt(attempt + 1)
    return True, False, "attempt %d runs" % job.attempt


def _stop(job, order, attempt):
    # type: (object, dict, int) -> tuple
    with job.ending():
        left = end_tree(job.watcher, _grace(order))
        if left:
            return False, False, "processes %s cannot be ended (in the kernel)" % left
        job.has_stopped()
    return True, False, "the job is stopped"


def _grace(order):
    # type: (dict) -> float
    try:
        grace_s = float(order["arguments"]["grace_s"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return _GRACE_S
    return min(max(grace_s, 0.0), 600.0) if grace_s == grace_s else _GRACE_S


_VERBS = {"collect": _collect, "restart": _restart, "stop": _stop}
