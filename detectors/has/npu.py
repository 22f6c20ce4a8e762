"""Fault codes of Ascend NPUs in a line of whatever program: a code counts only where the public list knows it.

The list is the Ascend device plugin's (`detectors/catalog/npus.csv`); of Kunlun XPUs no public list exists.
"""

import re

import msgspec

from detectors.catalog.tables import CodeRow, npus

WORDS = (
    "faultCode",
    "FaultCode",
    "fault code",
    "fault_code",
    "Fault code",
    "Error Code",
    "errorCode",
    "exception code[",
    "event_id",
)

_CODE = re.compile(
    r"(?:[fF]ault|[eE]rror|[eE]xception|event)[ _]?(?:[cC]odes?|id)[\"']?\s{0,12}[:=\[( ]{1,4}[\"']?(?:0[xX])?([0-9a-fA-F]{8})\b"
)
_DEVICE = re.compile(
    r"(?:logic ?id|phy ?id|device ?id|dev[_ ]?id|chip ?id|card ?id|npu(?: id)?|npu)\W{1,4}(\d{1,3})\b", re.IGNORECASE
)


class Told(msgspec.Struct, frozen=True):
    """A fault of an NPU. device: "npu3", "" where the line names none."""

    row: CodeRow
    device: str

    @property
    def check(self) -> str:
        """What the finding is called."""
        return f"npu.{self.row.code}"


def read(text: str) -> Told | None:
    """The fault a line tells of, None if none that is known."""
    for found in _CODE.finditer(text):
        row = npus().get(found.group(1).upper())
        if row is not None:
            device = _DEVICE.search(text)
            return Told(row, f"npu{int(device.group(1))}" if device is not None else "")
    return None
