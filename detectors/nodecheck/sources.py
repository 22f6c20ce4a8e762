"""Whether a source can be believed: readings that cannot be, pages that never change, a device whose reading is stuck."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detectors.nodecheck.checks import Check, shown
from holdfast.events import Samples
from holdfast.faults import Action, Fault, NodeAction, Severity
from holdfast.topology import Kind, Target

MOST_SOURCES = 16_384
FROZEN_LOOKS, STUCK_LOOKS = 10, 20
# Readings that move a little at every look on a machine that lives.
LIVELY = ("gpu.power_w", "node.load1", "nic.rx_bytes_total", "node.mem_available_bytes", "sensor.temp_c")
_STUCK = "gpu.power_w"


def _row(id: str, signal: str) -> Check:
    return Check(
        id=id, when=(f"{signal} >= 0",), fault=Fault.PLATFORM, severity=Severity.WARNING, action=Action.WATCH,
        node_action=NodeAction.NONE, text="",
    )  # fmt: skip


class Seen(msgspec.Struct):
    """A source's last page. same: looks in a row in which it was the same; stuck: for each target, so did its reading."""

    values: bytes
    targets: tuple[Target, ...]
    at: float
    same: int = 0
    stuck: list[int] = []


Lie = tuple[Target, str, Check, str]


@dataclass
class Honesty:
    """Remembers the last page of each source, bounded."""

    pages: dict[str, Seen] = field(default_factory=dict)

    @staticmethod
    def source_of(seen: Samples) -> Target:
        """The source itself as a target."""
        return Target(Kind.SOURCE, seen.source, node=seen.node)

    def believable(self, seen: Samples, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, list[Lie]]:
        """The readings that can be, NaN for the others, and what is to be said of those. low, high: what each column can be."""
        out = (seen.values < low) | (seen.values > high)
        if not out.any():
            return seen.values, []
        lies = list[Lie]()
        for m, n in zip(*np.nonzero(out), strict=True):
            signal = seen.signals[n]
            text = f"{signal} is {shown(signal, float(seen.values[m, n]))}, which cannot be"
            lies.append((seen.targets[m], signal, _row("source.implausible", signal), text))
        return np.where(out, np.nan, seen.values), lies

    def alive(self, seen: Samples, values: np.ndarray, *, looks: int = 0) -> Iterator[Lie]:
        """Sources whose page does not change, and targets whose reading does not while their peers' do.

        looks: so many are enough, 0 for the usual number
        """
        lively = [n for n, signal in enumerate(seen.signals) if signal in LIVELY]
        if not lively or np.isnan(values[:, lively]).all():
            return
        key = f"{seen.source} {seen.node} {seen.targets[0].kind}"
        before = self.pages.pop(key, None)
        page = self.pages[key] = Seen(values.tobytes(), seen.targets, seen.at, stuck=[0] * len(seen.targets))
        while len(self.pages) > MOST_SOURCES:
            del self.pages[next(iter(self.pages))]
        if before is None or before.targets != seen.targets or len(before.values) != len(page.values) or seen.at <= before.at:
            return
        page.same = before.same + 1 if before.values == page.values else 0
        if page.same >= max(3, min(FROZEN_LOOKS, looks or FROZEN_LOOKS)):
            text = f"nothing it says has changed in {page.same + 1} looks"
            yield self.source_of(seen), seen.signals[lively[0]], _row("source.frozen", seen.signals[lively[0]]), text
        elif _STUCK in seen.signals:
            yield from self._stuck(seen, values, before, page, looks)

    def _stuck(self, seen: Samples, values: np.ndarray, before: Seen, page: Seen, looks: int) -> Iterator[Lie]:
        n = seen.signals.index(_STUCK)
        old = np.frombuffer(before.values, dtype=np.float64).reshape(values.shape)
        same = (values[:, n] == old[:, n]) & (values[:, n] > 0.0)
        if same.all() or len(same) < 4:
            page.stuck = before.stuck
            return
        if not same.any():
            return
        page.stuck = [count + 1 if stays else 0 for count, stays in zip(before.stuck, same.tolist(), strict=True)]
        for m, count in enumerate(page.stuck):
            if count >= max(4, min(STUCK_LOOKS, looks or STUCK_LOOKS)):
                text = f"{_STUCK} has been {shown(_STUCK, float(values[m, n]))} for {count + 1} looks, while its peers' moves"
                yield seen.targets[m], _STUCK, _row("source.stuck", _STUCK), text
