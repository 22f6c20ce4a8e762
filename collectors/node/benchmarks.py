"""Outputs of tests that put a machine under load: nccl-tests, gpu-burn, perftest, and our own active checks."""

import re
from typing import Any

import msgspec

from collectors.node.notes import Notes, Place, numbered
from collectors.node.tree import number_of
from holdfast.topology import Kind

_NCCL_HEAD = re.compile(r"^#\s+size\s+count\s+type", re.MULTILINE)
_NCCL_END = re.compile(r"^# Out of bounds values : (\d{1,12}) (OK|FAILED)")
_NCCL_MEAN = re.compile(r"^# Avg bus bandwidth\s*: ([\d.]{1,12})")
_NCCL_FAILED = re.compile(r"Test (?:NCCL|CUDA) failure|NCCL WARN .{0,80}(?:failed|error)")
_BURN_PART = re.compile(r"\((-?\d{1,9}) Gflop/s\)")
_BURN_SUMMARY = re.compile(r"^\s*GPU (\d{1,3}): (OK|FAULTY)")
_BURN_DIED = re.compile(r"DIED!")
_MOST_DEVICES = 64
_BW_DEVICE = re.compile(r"Device\s*:\s*(\S{1,64})")
_BW_HEAD = re.compile(r"#bytes\s+#iterations\s+BW peak\[(MB/sec|Gb/sec|MiB/sec)\]")
_BW_ROW = re.compile(r"^\s*(\d{1,12})\s+(\d{1,12})\s+([\d.]{1,14})\s+([\d.]{1,14})\s+([\d.]{1,14})")
_TO_GBPS = {"MB/sec": 8.0 / 1000.0 * 1.048576, "MiB/sec": 8.0 / 1000.0 * 1.048576, "Gb/sec": 1.0}  # perftest's MB is 2**20 bytes
_LOST = re.compile(r"(?:Couldn't|Failed|failed|Unable) .{0,120}|Completion with error .{0,120}")
OWN = "holdfast.check"


def tells_nccl(head: str) -> bool:
    return head.count("# ") > 1 and bool(_NCCL_HEAD.search(head)) and "busbw" in head


def read_nccl(file: str, text: str, notes: Notes) -> None:
    """nccl-tests: the best and the mean bus bandwidth (GB/s), wrong results, and whether it came to its end."""
    best, wrong, ended = 0.0, 0.0, False
    where = Place(file, 0, "", "")
    for number, line in numbered(text):
        fields = line.split()
        place = Place(file, number, line.strip(), "")
        if (end := _NCCL_END.match(line)) is not None:
            ended, wrong = True, wrong + float(end.group(1)) + (end.group(2) == "FAILED")
            notes.tell("test.nccl_wrong", wrong, file, line.strip(), line=number)
        elif (mean := _NCCL_MEAN.match(line)) is not None:
            notes.tell("test.nccl_mean_gbytes_per_s", float(mean.group(1)), file, line.strip(), line=number)
        elif _NCCL_FAILED.search(line):
            notes.tell("test.failed", 1.0, file, line.strip(), line=number)
        elif len(fields) >= 11 and fields[0].isdigit() and fields[1].isdigit():
            rates = [number_of(field) for field in (fields[-6], fields[-2])]
            errors = [number_of(field) for field in (fields[-5], fields[-1])]
            rate = max((r for r in rates if r is not None), default=0.0)
            if rate > best:
                best, where = rate, place
            if any(e is not None and e > 1e-2 for e in errors):  # rounding is smaller, a count of wrong elements at least 1
                wrong += 1.0
                notes.tell("test.nccl_wrong", wrong, file, line.strip(), line=number)
    if best:
        notes.tell("test.nccl_gbytes_per_s", best, file, where.text, line=where.line)
    if not ended:
        notes.tell("test.unfinished", 1.0, file, "nccl-tests has not come to its end")


def tells_burn(head: str) -> bool:
    return "Gflop/s)" in head and "proc'd:" in head


def read_burn(file: str, text: str, notes: Notes) -> None:
    """gpu-burn: each device's last rate, its errors, and the summary at the end."""
    for number, line in enumerate(text.splitlines(), 1):
        summary = _BURN_SUMMARY.match(line[:200])
        if summary is not None:
            name = summary.group(1)
            notes.add(Kind.DEVICE, name, "test.burn_faulty", float(summary.group(2) != "OK"), Place(file, number, line.strip(), name))
            continue
        if "proc'd:" not in line:
            continue
        # one line holds many reports, written over each other on a terminal
        for report in line[-200_000:].split("proc'd:"):
            if "errors:" in report:
                _burn_report(file, number, report, notes)
        if _BURN_DIED.search(line):
            notes.tell("test.failed", 1.0, file, "gpu-burn: a device's process died", line=number)


def _burn_report(file: str, number: int, report: str, notes: Notes) -> None:
    rates = _BURN_PART.findall(report.partition("errors:")[0])[:_MOST_DEVICES]
    errors = [part.split()[0] for part in report.partition("errors:")[2].partition("temps:")[0].split(" - ") if part.split()]
    for n, rate in enumerate(rates):
        if rate != "0":
            notes.add(Kind.DEVICE, str(n), "test.burn_gflops", number_of(rate), Place(file, number, f"GPU {n}: {rate} Gflop/s", str(n)))
    for n, count in enumerate(errors[:_MOST_DEVICES]):
        value = number_of(count)
        if value is not None and value >= notes.reading(Kind.DEVICE, str(n), "test.burn_errors", 0.0):
            notes.add(Kind.DEVICE, str(n), "test.burn_errors", value, Place(file, number, f"GPU {n}: errors {count}", str(n)))


def tells_bandwidth(head: str) -> bool:
    return bool(_BW_HEAD.search(head)) and "BW Test" in head


def read_bandwidth(file: str, text: str, notes: Notes) -> None:
    """perftest (ib_write_bw and its like): the best mean rate of the port, Gb/s."""
    device, unit, best = "", "MB/sec", (0.0, Place(file, 0, "", ""))
    for number, line in numbered(text):
        found = _BW_DEVICE.search(line)
        head = _BW_HEAD.search(line)
        if found is not None:
            device = device or found.group(1)
        elif head is not None:
            unit = head.group(1)
        elif (row := _BW_ROW.match(line)) is not None:
            rate = float(number_of(row.group(4)) or 0.0) * _TO_GBPS[unit]
            if rate > best[0]:
                best = (rate, Place(file, number, line.strip(), device))
        elif _LOST.match(line.strip()):
            notes.add(Kind.NIC, f"{device or 'port'}:1", "test.port_failed", 1.0, Place(file, number, line.strip(), device))
    if device and best[0]:
        notes.add(Kind.NIC, f"{device}:1", "test.rdma_gbits_per_s", best[0], best[1])
    elif device:
        notes.add(Kind.NIC, f"{device}:1", "test.port_failed", 1.0, Place(file, 0, "no rate was measured", device))


def tells_own(head: str) -> bool:
    return head.lstrip().startswith("{") and f'"kind":"{OWN}"' in head.replace('": "', '":"')[:2000]


class _Own(msgspec.Struct, frozen=True):
    """One line of an active check of ours: a reading, and what a person would say of it."""

    kind: str
    check: str
    signal: str
    value: float
    target: str = ""
    of: Kind = Kind.NODE
    text: str = ""


def own(check: str, signal: str, value: float, *, target: str = "", of: Kind = Kind.NODE, text: str = "") -> str:
    """A line that `read_own` reads."""
    return msgspec.json.encode(_Own(OWN, check, signal, value, target, of, text)).decode()


def read_own(file: str, text: str, notes: Notes) -> None:
    """Lines of an active check of ours.

    raises ValueError: a line that is none
    """
    for number, line in enumerate(text.splitlines()[:10_000], 1):
        if not line.startswith("{"):
            continue  # what a library says beside it
        try:
            said: Any = msgspec.json.decode(line, type=_Own)
        except msgspec.MsgspecError as error:
            raise ValueError(f"line {number}: {error}") from error
        place = Place(file, number, said.text[:500], said.target)
        if said.of is Kind.NODE:
            notes.tell(said.signal, said.value, file, said.text[:500], line=number)
        else:
            notes.add(said.of, said.target, said.signal, said.value, place)
