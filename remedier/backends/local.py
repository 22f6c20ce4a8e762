"""Orders for jobs on this machine: agents fetch them, carry them out and report; nothing is scheduled elsewhere."""

from collections.abc import Iterator, Sequence

from holdfast.events import Order, Outcome
from holdfast.faults import Verb

VERBS = frozenset({Verb.COLLECT, Verb.RESTART, Verb.STOP})


class Local:
    """Keeps orders until their outcome is committed; one that no agent answers within its deadline has failed.

    slack_s: how long past an order's own deadline its answer is still awaited
    """

    def __init__(self, *, slack_s: float = 10.0) -> None:
        self.slack_s = slack_s
        self._orders: dict[str, Order] = {}
        self._refused: dict[str, Order] = {}
        self._since: dict[str, float] = {}

    def submit(self, order: Order) -> None:
        """Take an order; the same id again changes nothing."""
        kept = self._orders if order.verb in VERBS else self._refused
        kept.setdefault(order.id, order)

    def poll(self, now: float) -> Iterator[Outcome]:
        """Refusals, and orders whose time is up."""
        for order in self._refused.values():
            note = f"this machine alone cannot {order.verb}; it can {', '.join(sorted(VERBS))}"
            yield Outcome(at=now, order=order.id, done=False, refused=True, note=note)
        for order in list(self._orders.values()):
            # counted from when this process first saw it, so that time in which the service was down is not charged
            since = self._since.setdefault(order.id, now)
            if now - since > order.deadline_s + self.slack_s:
                yield Outcome(at=now, order=order.id, done=False, note=f"no agent answered in {now - since:.0f} s")

    def settle(self, outcome: Outcome) -> None:
        """Forget an order."""
        for kept in (self._orders, self._refused, self._since):
            kept.pop(outcome.order, None)

    def orders_for(self, job: str) -> Sequence[Order]:
        """The orders of a job that are not settled, oldest first."""
        return [order for order in self._orders.values() if order.job == job]
