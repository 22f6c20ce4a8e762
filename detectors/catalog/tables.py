"""Catalogues of device errors as data: XIDs, NVLink sub-codes of XID 144-150, SXIDs, DCGM health errors, NPU codes.

Numbers, names and public classes are facts of: NVIDIA's public XID catalogue (`catalog`) and the headers of its open GPU
kernel modules (`nverror`), the NVSwitch tables of the Fabric Manager User Guide, DU-09883-001 (`fm-guide`), DCGM's header of
errors (`dcgm`), the Ascend device plugin's list of fault codes (`ascend-device-plugin`); second opinions are those of gpud,
NVSentinel and NVIDIA's device plugin for Kubernetes. `name` as a source: nobody publishes a class, so it is read from the
name. Fault, severity and actions are this project's choice; where sources disagree, both stand in the row, with the reason
for the choice. No public list of Kunlun XPU codes exists: such codes have no table.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

import msgspec

from holdfast.faults import Action, Fault, NodeAction, Severity


class CodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one code.

    public_action, second_action: what two sources want done, in their own words; reason: why the row says what it says
    """

    code: str
    name: str
    fault: Fault
    severity: Severity
    action: Action
    node_action: NodeAction
    public_action: str = ""
    source: str = ""
    second_source: str = ""
    second_action: str = ""
    reason: str = ""

    @property
    def sticky(self) -> bool:
        """Whether only a reset, a reboot or a person ends it: that the device is silent says nothing."""
        mends = (NodeAction.RESET_DEVICE, NodeAction.REBOOT, NodeAction.REPLACE_HARDWARE)
        return self.node_action in mends and self.severity in (Severity.FATAL, Severity.ERROR)


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


def _read(file: str, *, code: str = "code", name: str = "name", public: str = "public_action") -> dict[str, CodeRow]:
    found = {}
    for row in _rows(file):
        known = row | {"code": row[code], "name": row.get(name, ""), "public_action": row.get(public, "")}
        found[row[code]] = msgspec.convert(
            {key: known.get(key, "") for key in CodeRow.__struct_fields__}, CodeRow, strict=False
        )
    return found


@cache
def xids() -> dict[int, CodeRow]:
    """XID -> its row."""
    return {int(code): row for code, row in _read("xids.csv").items()}


@cache
def sxids() -> dict[int, CodeRow]:
    """SXID -> its row."""
    return {int(code): row for code, row in _read("sxids.csv", public="public_class").items()}


@cache
def dcgm_errors() -> dict[str, CodeRow]:
    """Name of a DCGM health error ("DCGM_FR_VOLATILE_DBE_DETECTED") -> its row."""
    return _read("dcgm.csv", code="name", public="public_severity")


@cache
def npus() -> dict[str, CodeRow]:
    """Fault code of an Ascend NPU, eight hexadecimal digits in capitals -> its row."""
    return _read("npus.csv", public="public_class")


@cache
def _followers() -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {}
    for row in _rows("follows.csv"):
        found.setdefault(int(row["code"]), {})[int(row["after"])] = float(row["within_s"])
    return found


def follows(code: int) -> Mapping[int, float]:
    """XIDs that an XID only follows from when they were said of the same device shortly before: XID -> seconds."""
    return _followers().get(code, {})


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
