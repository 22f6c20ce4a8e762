"""The gang scheduler of the simulated cluster: all nodes of a job at once, the highest priority first, near each other."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from simulator.nodes import Node


def pick(free: Sequence[Node], count: int, *, near: Iterable[Node] = ()) -> list[Node]:
    """So many nodes in as few pods as can be: the tightest pod that holds all of them, else the emptiest ones first.

    near: nodes the job has already, whose pods come first. Fewer than `count` where there are not so many.
    """
    pods: dict[int, list[Node]] = defaultdict(list)
    for node in free:
        pods[node.pod].append(node)
    known = {node.pod for node in near}
    fits = [pod for pod, nodes in pods.items() if len(nodes) >= count]
    if fits:
        best = min(fits, key=lambda pod: (pod not in known, len(pods[pod]), pod))
        return pods[best][:count]
    order = sorted(pods, key=lambda pod: (pod not in known, -len(pods[pod]), pod))
    return list(itertools.islice(itertools.chain.from_iterable(pods[pod] for pod in order), count))


@dataclass(order=True)
class Waiting:
    """A job in the queue. rank: minus its priority, then its turn."""

    rank: tuple[int, int]
    count: int = field(compare=False)
    place: Callable[[list[Node]], None] = field(compare=False)
    avoid: frozenset[str] = field(compare=False, default=frozenset())


class Gang:
    """The queue. A smaller job may pass a larger one that does not fit yet; nobody is preempted."""

    def __init__(self) -> None:
        self._turn = itertools.count()
        self._queue: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, count: int, place: Callable[[list[Node]], None], *, priority: int = 0, avoid: Iterable[str] = ()) -> None:
        """Put a job at its place in the queue; `place` is called with its nodes when there are enough."""
        self._queue.append(Waiting((-priority, next(self._turn)), count, place, frozenset(avoid)))
        self._queue.sort()

    def serve(self, free: Callable[[frozenset[str]], list[Node]]) -> None:
        """Place whoever fits into what is free now. free: the nodes that may be used, but for those to avoid"""
        for one in list(self._queue):
            nodes = free(one.avoid)
            if len(nodes) >= one.count:
                self._queue.remove(one)
                one.place(pick(nodes, one.count))
