"""NVIDIA's management library: the state of every GPU, asked in a thread that may hang without holding anybody."""

import importlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from collectors.node.notes import Notes, Place
from collectors.sourcestate import SourceStates
from holdfast.events import Observation
from holdfast.topology import Kind

_MOST_NVLINKS = 18
# NVMLError.value: what the library says of a device, or of itself (nvml.h).
_LOST, _RESET, _MISMATCH = 15, 16, 18

Turn = Callable[[Any], float]

# signal -> (function of the library, further arguments by the names of its constants, what to make of the answer)
ASKED: tuple[tuple[str, str, tuple[str | int, ...], Turn], ...] = (
    ("gpu.temp_c", "nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",), float),
    ("gpu.temp_slowdown_c", "nvmlDeviceGetTemperatureThreshold", ("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN",), float),
    ("gpu.power_w", "nvmlDeviceGetPowerUsage", (), lambda mw: mw / 1e3),
    ("gpu.power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", (), lambda mw: mw / 1e3),
    ("gpu.util_ratio", "nvmlDeviceGetUtilizationRates", (), lambda rates: rates.gpu / 100.0),
    ("gpu.sm_clock_hz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_SM",), lambda mhz: mhz * 1e6),
    ("gpu.sm_clock_max_hz", "nvmlDeviceGetMaxClockInfo", ("NVML_CLOCK_SM",), lambda mhz: mhz * 1e6),
    ("gpu.mem_used_bytes", "nvmlDeviceGetMemoryInfo", (), lambda memory: float(memory.used)),
    ("gpu.mem_total_bytes", "nvmlDeviceGetMemoryInfo", (), lambda memory: float(memory.total)),
    ("gpu.ecc_uncorrected_total", "nvmlDeviceGetTotalEccErrors", ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_VOLATILE_ECC"), float),
    ("gpu.ecc_corrected_total", "nvmlDeviceGetTotalEccErrors", ("NVML_MEMORY_ERROR_TYPE_CORRECTED", "NVML_VOLATILE_ECC"), float),
    (
        "gpu.ecc_uncorrected_aggregate_total", "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_AGGREGATE_ECC"), float,
    ),
    ("gpu.remapped_uncorrected_total", "nvmlDeviceGetRemappedRows", (), lambda rows: float(rows[1])),
    ("gpu.row_remap_pending", "nvmlDeviceGetRemappedRows", (), lambda rows: float(rows[2])),
    ("gpu.row_remap_failed", "nvmlDeviceGetRemappedRows", (), lambda rows: float(rows[3])),
    ("gpu.pcie_replay_total", "nvmlDeviceGetPcieReplayCounter", (), float),
    ("pcie.lanes", "nvmlDeviceGetCurrPcieLinkWidth", (), float),
    ("pcie.lanes_max", "nvmlDeviceGetMaxPcieLinkWidth", (), float),
    ("pcie.generation", "nvmlDeviceGetCurrPcieLinkGeneration", (), float),
    ("pcie.generation_max", "nvmlDeviceGetMaxPcieLinkGeneration", (), float),
)  # fmt: skip
# Bits of the clocks' event reasons (nvml.h).
_REASONS = {
    "gpu.throttle_sw_power": 0x4, "gpu.throttle_hw": 0x8, "gpu.throttle_sw_thermal": 0x20, "gpu.throttle_hw_thermal": 0x40,
    "gpu.throttle_power_brake": 0x80,
}  # fmt: skip


def ask(library: Any, notes: Notes) -> None:
    """Note what the library says of every device; what it does not support is not noted.

    library: the module pynvml, or one that answers alike; a device that is lost, and a driver that does not answer, are readings too
    """
    try:
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
    except library.NVMLError as error:
        signal = "node.driver_mismatch" if _value(error) == _MISMATCH else "node.driver_not_answering"
        notes.tell(signal, 1.0, "nvml", str(error))
        return
    notes.tell("node.driver_not_answering", 0.0, "nvml", "it answers")
    notes.tell("node.devices", float(count), "nvml", f"{count} devices")
    for index in range(count):
        _device(library, index, notes)
    library.nvmlShutdown()  # a driver that is loaded anew is found by the next look


def _device(library: Any, index: int, notes: Notes) -> None:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        bus = library.nvmlDeviceGetPciInfo(handle).busId
    except library.NVMLError as error:
        id = str(index)
        notes.add(Kind.DEVICE, id, "gpu.lost", 1.0, Place("nvml", 0, str(error), id))
        return
    printed = bus.decode() if isinstance(bus, bytes) else str(bus)
    id = printed.lower()[-12:].rpartition(".")[0]
    if index == 0:
        name = _asked(library, notes, id, printed, "nvmlDeviceGetName", (handle,))
        notes.facts["gpu.model"] = name.decode() if isinstance(name, bytes) else str(name or "")
    for signal, function, arguments, turn in ASKED:
        given = [getattr(library, word, None) if isinstance(word, str) else word for word in arguments]
        answer = _asked(library, notes, id, printed, function, (handle, *given)) if None not in given else None
        if answer is not None:
            notes.add(Kind.DEVICE, id, signal, turn(answer), Place("nvml", 0, f"{function}: {answer}"[:200], printed))
    reasons = _asked(library, notes, id, printed, "nvmlDeviceGetCurrentClocksThrottleReasons", (handle,))
    for signal, bit in _REASONS.items() if reasons is not None else ():
        notes.add(Kind.DEVICE, id, signal, float(bool(reasons & bit)), Place("nvml", 0, f"clocks event reasons {reasons:#x}", printed))
    _links(library, handle, id, printed, notes)


def _links(library: Any, handle: Any, id: str, printed: str, notes: Notes) -> None:
    states = []
    for link in range(_MOST_NVLINKS):
        state = _asked(library, notes, id, printed, "nvmlDeviceGetNvLinkState", (handle, link))
        if state is None:
            break
        states.append(bool(state))
    if states:
        place = Place("nvml", 0, f"{sum(states)} of {len(states)} NVLinks are up", printed)
        notes.add(Kind.DEVICE, id, "gpu.nvlinks_up", float(sum(states)), place)
        notes.add(Kind.DEVICE, id, "gpu.nvlinks_down", float(len(states) - sum(states)), place)


def _asked(library: Any, notes: Notes, id: str, printed: str, function: str, arguments: tuple[Any, ...]) -> Any:
    """The answer, None where there is none; a device that is lost is noted."""
    call = getattr(library, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except library.NVMLError as error:
        if _value(error) in (_LOST, _RESET):
            notes.add(Kind.DEVICE, id, "gpu.lost", 1.0, Place("nvml", 0, f"{function}: {error}"[:200], printed))
        return None


def _value(error: Any) -> int:
    value = getattr(error, "value", 0)
    return value if isinstance(value, int) else 0


class Nvml:
    """The collector `nvml`; needs the extra `nvml` (nvidia-ml-py).

    node, job: what it is said of, this machine's name unless told; every_s: from one look to the next
    timeout_s: a look that takes longer has hung: that is said, and the thread that hangs is left to itself
    library: instead of the module pynvml
    """

    durable = False

    def __init__(
        self, *, node: str = "", job: str = "", every_s: float = 15.0, timeout_s: float = 30.0, library: Any = None,
    ) -> None:  # fmt: skip
        self.node, self.job, self.every_s, self.timeout_s = node or socket.gethostname(), job, every_s, timeout_s
        self._library = library
        self._ready: queue.Queue[Notes | None] = queue.Queue(4)
        self._states = SourceStates()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard_at, self._hung = 0.0, False

    def poll(self, now: float) -> Iterator[Observation]:
        """The looks that are ready; a library that hangs is a reading of the node and a source that is down."""
        source = f"nvml:{self.node}"
        if self._thread is None:
            self._heard_at = now
            self._thread = threading.Thread(target=self._look, name="ask nvml", daemon=True)
            self._thread.start()
        for _ in range(self._ready.qsize()):
            notes = self._ready.get_nowait()
            self._heard_at, self._hung = now, False
            if notes is not None:
                yield from notes.samples(now, source=source, job=self.job)
            yield from self._states.of(source, now, up=notes is not None, node=self.node, job=self.job)
        if not self._hung and now - self._heard_at > self.every_s + self.timeout_s:
            self._hung = True
            notes = Notes(self.node)
            notes.tell("node.driver_not_answering", 1.0, "nvml", f"no answer for {now - self._heard_at:.0f} s")
            yield from notes.samples(now, source=source, job=self.job)
            yield from self._states.of(source, now, up=False, node=self.node, job=self.job)

    def close(self, seconds: float = 0.0) -> None:
        """Ask no more; one that hangs is not waited for."""
        self._leaving.set()

    def _look(self) -> None:
        if self._library is None:
            try:
                self._library = importlib.import_module("pynvml")
            except ImportError:
                self._put(None)  # no library: a source that is not there
                return
        while not self._leaving.is_set():
            begun = time.monotonic()
            notes = Notes(self.node)
            ask(self._library, notes)
            self._put(notes)
            self._leaving.wait(max(0.1, self.every_s - (time.monotonic() - begun)))

    def _put(self, notes: Notes | None) -> None:
        try:
            self._ready.put_nowait(notes)
        except queue.Full:  # nobody polls: the next look is newer
            return
