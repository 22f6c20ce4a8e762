"""Catalogues of device errors as data: XIDs, NVLink sub-codes of XID 144-150, SXIDs.

Numbers, names and recovery classes after NVIDIA's public XID catalogue and the headers of its open GPU kernel modules
(column `source`: catalog, nverror); fault, severity and actions are this project's choice. Where the public class is a
workflow, the row holds what an operator does first.
"""

import csv
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

import msgspec

from holdfast.faults import Action, Fault, NodeAction, Severity


class CodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one XID."""

    code: int
    name: str
    fault: Fault
    severity: Severity
    action: Action
    node_action: NodeAction


class _SubCode(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the NVLink decode: which information words it fits, by driver generation, and what is to be done."""

    code: int
    units: tuple[str, ...]
    masks: tuple[re.Pattern[str], ...]
    statuses: frozenset[int]
    resets: bool
    fatal: bool


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("detectors.catalog") / name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


@cache
def xids() -> dict[int, CodeRow]:
    """XID -> its row."""
    kept = ("code", "name", "fault", "severity", "action", "node_action")
    rows = (msgspec.convert({key: row[key] for key in kept}, CodeRow, strict=False) for row in _rows("xids.csv"))
    return {row.code: row for row in rows}


@cache
def sxids() -> dict[int, tuple[str, Fault]]:
    """SXID -> name and fault."""
    return {int(row["code"]): (row["name"], Fault(row["fault"])) for row in _rows("sxids.csv")}


@cache
def _sub_codes() -> tuple[_SubCode, ...]:
    found = []
    for row in _rows("nvlink5.csv"):
        masks = tuple(_mask(row[key]) for key in ("info_before_r575", "info_since_r575") if set(row[key]) & set("01"))
        statuses = frozenset(int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]+", row["status"]))
        found.append(
            _SubCode(
                code=int(row["code"]), units=tuple(row["unit"].split("/")), masks=masks, statuses=statuses,
                resets=row["public_action"] == "RESET_GPU", fatal=not row["severity"].startswith("non"),
            )
        )  # fmt: skip
    return tuple(found)


def _mask(bits: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"[^01]", ".", bits.strip()))


def nvlink_is_fatal(code: int, *, unit: str, info: int, status: int, said_fatal: bool) -> bool:
    """Whether an NVLink error (XID 144-150) takes the device down: by the decode table, else by the driver's own word.

    info, status: the first two hexadecimal words of the message
    """
    parts = set(unit.split("/"))
    rows = [
        row
        for row in _sub_codes()
        if row.code == code and parts & set(row.units) and (not row.statuses or status in row.statuses)
    ]
    if len(rows) > 1:
        bits = f"{info:032b}"
        rows = [row for row in rows if any(mask.fullmatch(bits) for mask in row.masks)] or rows
    told = {row.fatal or row.resets for row in rows}
    return told.pop() if len(told) == 1 else said_fatal
