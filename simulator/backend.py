"""Carries out orders on the simulated cluster, as long as the real thing takes."""

from collections.abc import Iterator

from holdfast.events import Order, Outcome
from holdfast.faults import Verb
from simulator.training import TrainingJob
from simulator.world import World


class Simulated:
    """The backend `simulated`. The same order id twice acts once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._taken: dict[str, Order] = {}
        self._due: list[tuple[float, Outcome]] = []

    def submit(self, order: Order) -> None:
        """Take an order and begin with it."""
        if order.id in self._taken:
            return
        self._taken[order.id] = order
        act = _ACTS.get(order.verb)
        if act is None:
            self._say(order, 0.0, done=False, note=f"this cluster cannot {order.verb}")
        else:
            act(self, order)

    def poll(self, now: float) -> Iterator[Outcome]:
        """What has been done by now."""
        due = [pair for pair in self._due if pair[0] <= now]
        self._due = [pair for pair in self._due if pair[0] > now]
        for at, outcome in due:
            yield Outcome(at=at, order=outcome.order, done=outcome.done, refused=outcome.refused, note=outcome.note)

    def settle(self, outcome: Outcome) -> None:
        """Nothing more is asked about an order; its id is remembered, so that it never acts again."""

    # --- verbs

    def _collect(self, order: Order) -> None:
        self.world.collect(order)
        self._say(order, 0.0, done=True, note="collected")

    def _restart(self, order: Order) -> None:
        service = self.world.services.get(order.job)
        if service is not None:
            service.restart_at = self.world.cluster.now + 30.0
            self._say(order, 30.0, done=True, note="the engines run again")
            return
        job = self._job(order)
        if job is not None:
            self._begin(order, job, job.shape.restart_s)

    def _replace(self, order: Order) -> None:
        sick = self.world.sick_nodes(order)
        job = self.world.jobs.get(order.job)
        for node in sick:
            self.world.plan(self.world.cluster.now, self.world.repair(node))
        if job is None:
            self._say(order, 5.0, done=True, note=f"out for repair: {', '.join(node.id for node in sick) or 'nothing'}")
            return
        wanted = sum(node in sick for node in job.nodes)
        spares = iter(self.world.free(wanted, order.avoid, near=job.nodes))
        placed = [next(spares, None) if node in sick else node for node in job.nodes]
        if None in placed:
            self._say(order, 0.0, done=False, note="not enough spare nodes")
            return
        job.place([node for node in placed if node is not None], order=order.id)
        if job.state == "stopped":  # whoever has stopped it starts it again
            self._say(order, 5.0, done=True, note=f"placed on {len(job.nodes)} nodes, still stopped")
        else:
            self._begin(order, job, job.shape.schedule_s)

    def _resubmit(self, order: Order) -> None:
        job = self._job(order)
        if job is not None:
            wait_s = job.shape.schedule_s * 1.5
            left = list(job.nodes)
            job.place([], order=order.id)
            for node in left:
                self.world.tend(node)
            job.state = "queued" if job.state != "pending" else job.state
            self.world.enqueue(job, wait_s, order.avoid)
            self._say(order, wait_s, done=True, note=f"attempt {job.attempt} is scheduled" if job.nodes else "it waits for nodes")

    def _stop(self, order: Order) -> None:
        job = self._job(order)
        if job is not None:
            job.stop()
            self._say(order, 2.0, done=True, note="the job is stopped")

    def _job(self, order: Order) -> TrainingJob | None:
        job = self.world.jobs.get(order.job)
        if job is None:
            self._say(order, 0.0, done=False, note=f"no job {order.job!r} here")
        return job

    def _begin(self, order: Order, job: TrainingJob, wait_s: float) -> None:
        if not job.nodes:
            self._say(order, 0.0, done=False, note="it waits for nodes")
            return
        job.start(self.world.cluster.now, wait_s)
        self._say(order, wait_s, done=True, note=f"attempt {job.attempt} runs on {len(job.nodes)} nodes")

    def _say(self, order: Order, wait_s: float, *, done: bool, note: str) -> None:
        at = self.world.cluster.now + wait_s
        self._due.append((at, Outcome(at=at, order=order.id, done=done, note=note)))


_ACTS = {
    Verb.COLLECT: Simulated._collect,
    Verb.RESTART: Simulated._restart,
    Verb.REPLACE: Simulated._replace,
    Verb.RESUBMIT: Simulated._resubmit,
    Verb.STOP: Simulated._stop,
}
