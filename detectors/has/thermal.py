"""Claims that a device is hot or slowed down against the devices beside it, which do the same work."""

from collections.abc import Iterator

import msgspec
import numpy as np

from detectors.peers import LEAST, robust_z
from holdfast.events import Finding, Observation, Samples
from holdfast.faults import Action, Fault, NodeAction, Perception
from holdfast.topology import JobId, Target
from holdfast.verdict import Evidence

MOST_DEVICES = 262_144


class Warmth(msgspec.Struct):
    """One device. odd, even: samples in a row in which it stood out, or did not, since."""

    odd: int = 0
    even: int = 0
    claim: Finding | None = None


class Thermal:
    """Compares the temperature and clock of the devices of one page (at least four).

    hot_c: below this nobody is hot; slow_ratio: a clock under this share of the peers' median is throttled
    z: robust standard deviations that stand out; samples: so many in a row, to claim and to withdraw
    """

    consumes = (Samples,)

    def __init__(self, *, hot_c: float = 80.0, slow_ratio: float = 0.9, z: float = 6.0, samples: int = 2) -> None:
        self.hot_c, self.slow_ratio, self.z, self.samples = hot_c, slow_ratio, z, samples
        self._devices: dict[str, Warmth] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not isinstance(seen, Samples) or "gpu.temp_c" not in seen.signals or seen.source.startswith("agent:node:"):
            return  # a node's own agent has judged what it sends
        heat = seen.values[:, seen.signals.index("gpu.temp_c")]
        if np.isfinite(heat).sum() < LEAST:
            return  # nobody to compare with: neither hot nor cool again
        has_clock = "gpu.sm_clock_hz" in seen.signals
        clock = seen.values[:, seen.signals.index("gpu.sm_clock_hz")] if has_clock else np.full(len(heat), np.nan)
        odd = (robust_z(heat, floor=0.03) > self.z) & (heat >= self.hot_c)
        slow = (
            (robust_z(clock, floor=0.01) < -self.z) & (clock < self.slow_ratio * _middle(clock))
            if has_clock
            else odd & False
        )
        # a slow clock on a cool device is somebody's limit, not heat: both or heat alone is claimed
        odd |= slow & (heat >= self.hot_c)
        if not odd.any() and not self._devices:
            return
        usual = f"{_middle(heat):.0f} C, {_middle(clock) / 1e6:.0f} MHz"
        for n in np.flatnonzero(np.isfinite(heat)).tolist():  # a reading that is missing is no cool one
            if odd[n] or self._key(seen.targets[n]) in self._devices:
                text = f"{heat[n]:.0f} C, clock {clock[n] / 1e6:.0f} MHz; its peers: {usual}"
                yield from self._judge(seen.targets[n], bool(odd[n]), text, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _judge(self, target: Target, odd: bool, text: str, seen: Samples) -> Iterator[Finding]:
        key = self._key(target)
        one = self._devices.get(key)  # only those that stood out are remembered
        if one is None:
            while len(self._devices) >= MOST_DEVICES:
                del self._devices[next(iter(self._devices))]
            one = self._devices[key] = Warmth()
        one.odd, one.even = (one.odd + 1, 0) if odd else (0, one.even + 1)
        if one.odd >= self.samples and one.claim is None:
            one.claim = self._finding(target, text, seen)
            yield one.claim
        elif one.even >= self.samples:
            del self._devices[key]
            if one.claim is not None:
                yield msgspec.structs.replace(one.claim, at=seen.at, cleared=True, evidence=())

    @staticmethod
    def _key(target: Target) -> str:
        return f"{target.node} {target.id}"

    def _finding(self, target: Target, text: str, seen: Samples) -> Finding:
        self._said += 1
        return Finding(
            at=seen.at, id=f"thermal/{target.node}/{self._said}", job=JobId(seen.job), target=target,
            perception=Perception.NODE_FAULT, fault=Fault.GPU_THERMAL_POWER, check="thermal.hot", cause="hot", confidence=0.9,
            action=Action.REPLACE, node_action=NodeAction.INSPECT, evidence=(Evidence(seen.source, 0, text),),
        )  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._said, self._devices))

    def restore(self, memory: bytes) -> None:
        self._said, self._devices = msgspec.msgpack.decode(memory, type=tuple[int, dict[str, Warmth]])


def _middle(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
