"""What `holdfast agent` costs at rest on this machine: resident memory, and processor time over a minute, with a service that listens.

python -m bench.node_agent [seconds]
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
HEAVY = ("opentelemetry", "sqlalchemy", "pandas", "sklearn", "aiohttp", "rich", "typer")


def _service(door: socket.socket) -> None:
    """Acknowledges every batch, as the service would."""
    while True:
        try:
            line, _ = door.accept()
        except OSError:
            return
        with line, line.makefile("rb") as given:
            while (head := given.readline()) and head.startswith(b"POST"):
                size = 0
                while (row := given.readline().strip()) != b"":
                    if row.lower().startswith(b"content-length:"):
                        size = int(row.partition(b":")[2])
                body = given.read(size)
                sequence = body.partition(b'"sequence":')[2].partition(b",")[0].decode()
                answer = f'{{"acknowledged":{sequence}}}'.encode()
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int) -> float:
    """Resident memory, megabytes (10^6 bytes)."""
    row = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(row.split()[1]) * 1024 / 1e6


def main() -> None:
    """Print the figures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder, socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(4)
        threading.Thread(target=_service, args=(door,), daemon=True).start()
        base = Path(folder)
        (base / "token").write_text("t\n")
        settings = base / "agent.toml"
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        settings.write_text(f'[agent]\nurl = "{url}"\ntoken_file = "{base}/token"\nstate = "{base}/state.json"\n')
        agent = subprocess.Popen([sys.executable, "-m", "holdfast.node.agent", "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(10.0)
            before, begun = cpu_s(agent.pid), time.monotonic()
            time.sleep(seconds)
            used = (cpu_s(agent.pid) - before) / (time.monotonic() - begun)
            maps = Path(f"/proc/{agent.pid}/maps").read_text()
            print(f"holdfast agent at rest: {resident_mb(agent.pid):.1f} MB resident, {100 * used:.2f} % of a core over {seconds:.0f} s")
            print(f"of heavy libraries mapped: {[name for name in HEAVY if name in maps] or 'none'}")
        finally:
            agent.terminate()
            agent.wait()


if __name__ == "__main__":
    main()
