"""What the pages of a job's nodes last said of its devices, kept so that a verdict can tell which one does not do what the others do."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from detectors.tracehang.devices import Device
from holdfast.events import Samples
from holdfast.topology import Kind, NodeId, Target
from holdfast.wire import inputs_of_bytes, inputs_to_bytes

MOST_PAGES = 32_768
BUSY, POWER, LIMIT = "gpu.util_ratio", "gpu.power_w", "gpu.power_limit_w"
_KEPT = (BUSY, POWER, LIMIT)


class Pages:
    """The latest page of each source that tells how busy devices are."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str], Samples] = {}

    def take(self, seen: Samples) -> None:
        """Keep a page as it is: what it says is looked at when somebody asks, which is seldom."""
        if BUSY not in seen.signals or not seen.targets:
            return
        key = (seen.node, seen.source)
        self._pages.pop(key, None)
        while len(self._pages) >= MOST_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[key] = seen

    def told(self, job: str) -> bool:
        """Whether anybody has ever told of this job's devices."""
        return any(page.job == job for page in self._pages.values())

    def devices(self, job: str, placed: Mapping[str, str], *, since: float) -> dict[int, Device]:
        """Devices by rank, of pages that are no older than `since`.

        placed: rank -> its node. The ranks of a node have its devices in order, where there are as many of one as of the other.
        """
        ranks: dict[str, list[int]] = {}
        for rank, node in placed.items():
            if node and rank.isdigit():
                ranks.setdefault(node, []).append(int(rank))
        found: dict[int, Device] = {}
        for page in self._pages.values():
            if page.job != job or page.at < since:
                continue
            for node, devices in _by_node(page).items():
                own = sorted(ranks.get(node, ()))
                if len(own) == len(devices):
                    found |= dict(zip(own, devices, strict=True))
        return found

    def memory(self) -> bytes:
        """Only what is asked for: the rest of a page is another detector's matter."""
        return inputs_to_bytes([_slim(page) for page in self._pages.values()])

    def remember(self, memory: bytes) -> None:
        self._pages = {}
        for seen in inputs_of_bytes(memory):
            if isinstance(seen, Samples):
                self.take(seen)


def _slim(page: Samples) -> Samples:
    columns = [n for n, signal in enumerate(page.signals) if signal in _KEPT]
    return msgspec.structs.replace(
        page, signals=tuple(page.signals[n] for n in columns), values=np.ascontiguousarray(page.values[:, columns]), node=NodeId(page.node)
    )


def _by_node(page: Samples) -> dict[str, list[Device]]:
    """The devices of each node of a page in the order of their names, which is that of their places on the bus."""
    rows: dict[str, list[tuple[int, str, Device]]] = {}
    for target, device in _devices(page):
        rows.setdefault(target.node or page.node, []).append((len(target.id), target.id, device))
    return {node: [device for _, _, device in sorted(found, key=lambda row: row[:2])] for node, found in rows.items()}


def _devices(page: Samples) -> Iterator[tuple[Target, Device]]:
    busy, power, limit = (
        page.values[:, page.signals.index(name)] if name in page.signals else np.full(len(page.targets), np.nan) for name in _KEPT
    )
    power, limit = np.nan_to_num(power), np.nan_to_num(limit)
    for n, target in enumerate(page.targets):
        if target.kind is Kind.DEVICE and np.isfinite(busy[n]):
            yield target, Device(index=n, busy=float(busy[n]), power_w=float(power[n]), limit_w=float(limit[n]))
