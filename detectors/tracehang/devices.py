"""How busy each accelerator is while its rank waits: the one that is idle, or draws other power than all that spin, stands out.

A kernel that waits for its peers spins: the device is fully busy at a small part of its power. One whose kernel has not begun is idle.
"""

import csv
import io
import re
import statistics
from collections.abc import Mapping

import msgspec

MOST_BYTES = 4 << 20

_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,6})?")
_FIELDS = {
    "index": "index", "utilization.gpu": "busy", "power.draw": "power_w", "power.draw.instant": "power_w",
    "power.limit": "limit_w", "enforced.power.limit": "limit_w",
}  # fmt: skip
_IDLE, _BUSY = 0.1, 0.9
_MOST_ODD_SHARE = 0.25
_LEAST_PEERS = 4
# Power differs by so much from device to device by nature; a kernel of another kind differs by more.
_NATURAL_SHARE = 0.2
_DEVIATIONS = 8.0


class DevicesError(ValueError):
    """Not such a list; the message says why."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """busy: 0..1; power_w, limit_w: 0.0 where unknown."""

    index: int
    busy: float
    power_w: float = 0.0
    limit_w: float = 0.0

    def says(self) -> str:
        limit = f" of {self.limit_w:.0f} W" if self.limit_w else ""
        return f"its device is {self.busy:.0%} busy at {self.power_w:.0f} W{limit}"


def looks_like_devices(head: bytes) -> bool:
    """`nvidia-smi --query-gpu=index,utilization.gpu,power.draw,... --format=csv`."""
    first = head.lstrip().split(b"\n", 1)[0]
    return b"utilization.gpu" in first and b"," in first and b"index" in first


def read_devices(data: bytes) -> list[Device]:
    """The rows of such a list; raises DevicesError."""
    if len(data) > MOST_BYTES:
        raise DevicesError(f"{len(data)} bytes, at most {MOST_BYTES} are read")
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8", "replace")), skipinitialspace=True))
    except csv.Error as error:
        raise DevicesError(str(error)) from error
    heads = [_FIELDS.get(head.split(" [")[0].strip(), "") for head in rows[0]] if rows else []
    if "index" not in heads or "busy" not in heads:
        raise DevicesError("no index and utilization.gpu columns")
    found = []
    for row in rows[1:]:
        said = {name: float(n.group()) for name, cell in zip(heads, row, strict=False) if name and (n := _NUMBER.match(cell))}
        if "index" in said and "busy" in said:
            said["busy"] /= 100.0
            found.append(Device(index=int(said["index"]), **{name: value for name, value in said.items() if name != "index"}))
    return found


def odd_ones(devices: Mapping[int, Device]) -> dict[int, str]:
    """Of ranks that all wait in an operation those whose device does not do what the others' do -> what it does instead."""
    if len(devices) < _LEAST_PEERS:
        return {}
    idle = {rank: d for rank, d in devices.items() if d.busy <= _IDLE}
    busy = {rank: d for rank, d in devices.items() if d.busy >= _BUSY}
    if 2 * len(busy) <= len(devices):
        return {}
    if not idle:
        powers = [d.power_w for d in busy.values()]
        usual = statistics.median(powers)
        spread = statistics.median([abs(power - usual) for power in powers])
        odd = max(_DEVIATIONS * spread, _NATURAL_SHARE * usual)
        idle = {rank: d for rank, d in busy.items() if usual > 0.0 and abs(d.power_w - usual) > odd}
    if len(idle) > max(1.0, _MOST_ODD_SHARE * len(devices)):
        return {}
    others = [d for rank, d in busy.items() if rank not in idle]
    usual_w = statistics.median([d.power_w for d in others])
    return {rank: f"{d.says()}, those of its {len(others)} peers spin at {usual_w:.0f} W" for rank, d in idle.items()}
