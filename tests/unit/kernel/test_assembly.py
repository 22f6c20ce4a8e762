"""Parts that know of each other by what they are, not by name."""

from pathlib import Path

from holdfast.assembly import assemble
from holdfast.config import parse

_SETTINGS = """
[exporters.prometheus]
simulated = true

[exporters.webhook]
url = "http://127.0.0.1:9/"
secret_file = "{secret}"
"""


def test_what_one_exporter_drops_another_shows(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    parts = assemble(parse(_SETTINGS.format(secret=tmp_path / "secret")))
    parts.exporters["webhook"].delivery.dropped = 3  # type: ignore[attr-defined]
    assert 'holdfast_dropped_records_total{where="export"} 3.0' in parts.metrics().decode()
    assert [type(part).__name__ for part in parts.closing()] == ["Webhook"]
