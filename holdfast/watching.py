"""What a supervisor sees of its job: the service's answers, and the job's own output."""

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, TextIO

import msgspec

from holdfast.incident import Incident

_ANSWER_S = 2.0
_MOST_BYTES = 1 << 20


class Client:
    """Reads the API; a service that is away, or starting, is simply not heard."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self._token = url, token

    def job(self, name: str) -> dict[str, Any]:
        """The job's row, {} while there is none."""
        rows = self._get("/api/v1/jobs").get("jobs", [])
        return next((row for row in rows if row.get("id") == name), {})

    def incidents(self) -> list[Incident]:
        """Every incident the service knows, oldest first."""
        return msgspec.convert(self._get("/api/v1/incidents").get("incidents", []), list[Incident])

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                read: dict[str, Any] = json.load(answer)
                return read
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
            return {}


class Tail:
    """Copies what is appended to the log files below a folder, file by file, whole lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def copy_to(self, out: TextIO) -> None:
        """Copy what is new, at most a megabyte of each file at a time."""
        for path in sorted(self.folder.rglob("*.log")):
            at = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(at)
                fresh = file.read(_MOST_BYTES)
            whole = fresh[: fresh.rfind(b"\n") + 1] or (fresh if len(fresh) == _MOST_BYTES else b"")
            if whole:
                out.write(whole.decode(errors="replace"))
                out.flush()
                self._read[path] = at + len(whole)
