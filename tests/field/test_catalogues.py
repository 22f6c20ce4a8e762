"""Every code of the public catalogues is known here, with a class and an action."""

import csv
from collections.abc import Mapping

import pytest

from detectors.catalog.tables import CodeRow, dcgm_errors, nvlink_is_fatal, sxids, xids
from detectors.has import xid
from holdfast.faults import Fault
from tests.field.where import data

# Codes that stand for no fault: a test message, a level of recovery, nothing wrong.
NO_FAULT = {"0", "106", "107", "DCGM_FR_OK"}


def codes(file: str, column: str) -> list[str]:
    with data("catalog", file).open(encoding="utf-8", newline="") as text:
        return [row[column] for row in csv.DictReader(text) if row[column]]


def keyed(rows: Mapping[int, CodeRow]) -> dict[str, CodeRow]:
    return {str(code): row for code, row in rows.items()}


@pytest.mark.parametrize(
    ("file", "column", "known"),
    [
        pytest.param("nvidia_xid_catalog_xids.csv", "Code", keyed(xids()), id="XIDs of the public catalogue"),
        pytest.param("nverror_h_xids.csv", "xid", keyed(xids()), id="XIDs of the driver's header"),
        pytest.param("nvswitch_sxid_names.csv", "sxid", keyed(sxids()), id="SXIDs"),
        pytest.param("dcgm_errors.csv", "fr_code", dict(dcgm_errors()), id="DCGM health errors"),
    ],
)
def test_every_code_has_a_class_and_an_action(file: str, column: str, known: dict[str, CodeRow]) -> None:
    listed = codes(file, column)
    assert listed
    assert [code for code in listed if code not in known] == []
    assert [code for code in listed if known[code].fault is Fault.NONE and code not in NO_FAULT] == []
    # two sources that want different things stand both in the row, with the reason for the choice
    assert [code for code in listed if known[code].second_action and not known[code].source] == []


def test_a_dcgm_error_that_isolates_is_graver_than_one_that_is_watched() -> None:
    rows = dcgm_errors().values()
    assert {row.severity.value for row in rows if row.public_action == "ISOLATE"} == {"fatal"}
    assert {row.severity.value for row in rows if row.public_action == "MONITOR"} == {"warning"}


def test_every_sub_code_of_an_nvlink_error_is_decoded_as_its_row_says() -> None:
    """By the bits of both driver generations; rows whose class hangs on more than one row are as grave as the driver says."""
    with data("catalog", "nvidia_xid_catalog_xid144_150_decode.csv").open(encoding="utf-8", newline="") as text:
        rows = [list(row.values()) for row in csv.DictReader(text)]
    wrong = []
    for code, unit, before, since, status, bucket, *_rest in rows:
        severity = _rest[4]
        for bits in (before, since):
            if not set(bits) & set("01") or "/" in status:
                continue
            info = int("".join(bit if bit in "01" else "0" for bit in bits.strip()), 2)
            fatal = not severity.lower().startswith("non") or bucket == "RESET_GPU"
            said = nvlink_is_fatal(int(code), unit=unit, info=info, status=int(status or "0", 16), said_fatal=fatal)
            wrong += [(code, unit, bits, status)] if said is not fatal else []
    assert wrong == []


def test_an_xid_in_a_line_has_the_action_of_its_row() -> None:
    odd = set(range(144, 151)) | {154}
    lines = {
        code: xid.read(f"NVRM: Xid (PCI:0000:3b:00): {code}, pid=1, name=x, words")
        for code in xids()
        if code not in odd
    }
    assert [
        code for code, said in lines.items() if said is None or said.node_action is not xids()[code].node_action
    ] == []
