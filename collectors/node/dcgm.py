"""`dcgmi`: diagnostics and NVLink error counts as JSON, NVLink states as text."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from collectors.node.notes import Notes, Place
from holdfast.topology import Kind

_TELLS = ('"DCGM GPU Diagnostic"', '"DCGM Diagnostic"', '"NVLINK Error Counts"')
_STATES = re.compile(r"^\s*gpuId (\d{1,3}):\s*$", re.MULTILINE)
_LETTERS = re.compile(r"^\s*([UDXI_](?:\s+[UDXI_])*)\s*$")
_COUNTS = {
    "CRC Data Error": "gpu.nvlink_crc_errors_total", "CRC FLIT Error": "gpu.nvlink_crc_errors_total",
    "Recovery Error": "gpu.nvlink_recovery_errors_total", "Replay Error": "gpu.nvlink_replay_errors_total",
}  # fmt: skip


def tells(head: str) -> bool:
    return any(word in head for word in _TELLS) or bool(_STATES.search(head))


def read(file: str, text: str, notes: Notes) -> None:
    """Note failed and warned tests by device, links that are down, and link errors.

    raises ValueError: not JSON where it should be
    """
    if _STATES.search(text[:65_536]):
        _links(file, text, notes)
        return
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if isinstance(answer, dict) and "body" in answer:
        _counts(file, answer, notes)
    elif isinstance(answer, dict):
        for name, status, gpu, told in _tests(answer):
            place = Place(file, 0, f"{name}: {status}{told}", gpu)
            _test(notes, gpu, status, place)


def _test(notes: Notes, gpu: str, status: str, place: Place) -> None:
    failed, warned = status.casefold() == "fail", status.casefold() == "warn"
    for signal, value in (("dcgm.failed", failed), ("dcgm.warned", warned)):
        if gpu:
            if value or notes.place(Kind.DEVICE, gpu, signal) is None:
                notes.add(Kind.DEVICE, gpu, signal, float(value), place)
        elif value or notes.get(f"node.{signal.replace('.', '_')}") is None:
            notes.tell(f"node.{signal.replace('.', '_')}", float(value), place.file, place.text)


def _tests(answer: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(test, status, GPU or "", what it says) of a diagnosis, whatever its version nests."""
    root = answer.get("DCGM GPU Diagnostic") or answer.get("DCGM Diagnostic") or {}
    for category in _list(root, "test_categories"):
        for test in _list(category, "tests"):
            for result in _list(test, "results"):
                gpu = result.get("gpu_id", result.get("gpu_ids", result.get("entity_id", "")))
                told = "; ".join(str(part) for part in (result.get("warnings"), result.get("info")) if part)[:300]
                yield str(test.get("name"))[:80], str(result.get("status"))[:20], str(gpu)[:16], f" ({told})" if told else ""


def _list(row: Any, key: str) -> list[dict[str, Any]]:
    found = row.get(key) if isinstance(row, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _counts(file: str, answer: dict[str, Any], notes: Notes) -> None:
    header = answer.get("header")
    words = [word for word in header if isinstance(word, str)] if isinstance(header, list) else []
    gpu = next((word.removeprefix("GPU ") for word in words if word.startswith("GPU ")), "0")
    totals: dict[str, tuple[float, str]] = {}
    body = answer.get("body")
    for link, row in body.items() if isinstance(body, dict) else ():
        children = row.get("children") if isinstance(row, dict) else None
        for name, count in children.items() if isinstance(children, dict) else ():
            value = str(count.get("value", "")) if isinstance(count, dict) else ""
            if name in _COUNTS and value.isdigit() and len(value) < 20:
                total, told = totals.get(_COUNTS[name], (0.0, ""))
                totals[_COUNTS[name]] = (total + float(value), told or (f"{link}: {name} {value}" if value != "0" else ""))
    for signal, (total, told) in totals.items():
        notes.add(Kind.DEVICE, gpu[:16], signal, total, Place(file, 0, told or f"GPU {gpu}: none", gpu[:16]))


def _links(file: str, text: str, notes: Notes) -> None:
    gpu = ""
    for number, line in enumerate(text.splitlines(), 1):
        head = _STATES.match(line)
        if head is not None:
            gpu = head.group(1)
        elif gpu and (letters := _LETTERS.match(line[:400])) is not None:
            states = letters.group(1).split()
            place = Place(file, number, f"gpuId {gpu}: {' '.join(states)}", gpu)
            notes.add(Kind.DEVICE, gpu, "gpu.nvlinks_up", float(states.count("U")), place)
            notes.add(Kind.DEVICE, gpu, "gpu.nvlinks_down", float(states.count("D")), place)
            gpu = ""
