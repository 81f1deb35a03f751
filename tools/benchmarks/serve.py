"""How long clients of the web application wait, and whether its memory comes back."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from covidmm.errors import CovidmmError

DISTRIBUTIONS = ("torch", "fastapi", "uvicorn")
ROOT = Path(__file__).parents[2]
#: Requests before the first memory is read: allocators and caches have grown to their size then. Chosen here.
WARM_UP = 100
#: Growth of the server's memory that is accepted.
ACCEPTED_GROWTH = 0.05
_BOUNDARY = "covidmm"


def benchmark(
    config: str | None = None,
    file: str | None = None,
    requests: int = 100,
    clients: Sequence[int] = (1, 8),
    memory_requests: int = 1000,
) -> dict[str, Any]:
    """Start a server as a person would and send it one radiograph again and again.

    Args:
        config: of the ensemble; the demo's by default.
        file: the radiograph; the page's phantom by default.
        requests: timed, for each number of clients.
        clients: that ask at the same time.
        memory_requests: between two readings of the server's memory.

    Returns:
        Seconds (50th and 95th percentile) and requests per second by number of clients, resident bytes of the server
        before and after, and their growth as a share.

    Raises:
        CovidmmError: the server does not start, or refuses the radiograph.
    """
    if file is None:
        from covidmm.web.web_pictures import sample_file  # an optional extra

        content = sample_file()
    else:
        content = Path(file).read_bytes()
    with _server(config) as port:
        _ask_all(port, content, WARM_UP, max(clients))
        waits = {str(count): _summary(*_ask_all(port, content, requests, count)) for count in clients}
        before = _memory(port)
        _ask_all(port, content, memory_requests, max(clients))
        after = _memory(port)
    growth = after / before - 1
    return {
        "file_bytes": len(content),
        "requests": requests,
        "waits": waits,
        "memory": {
            "requests": memory_requests,
            "before_bytes": before,
            "after_bytes": after,
            "growth": growth,
        },
        "accepted": growth <= ACCEPTED_GROWTH,
    }


def format_report(report: dict[str, Any]) -> str:
    """The report as a table."""
    lines = [f"{'clients':>8} {'p50 s':>8} {'p95 s':>8} {'per s':>8}"]
    for count, wait in report["waits"].items():
        lines.append(f"{count:>8} {wait['p50']:8.3f} {wait['p95']:8.3f} {wait['per_second']:8.2f}")
    memory = report["memory"]
    mib = [memory[key] / 2**20 for key in ("before_bytes", "after_bytes")]
    lines.append(
        f"memory {mib[0]:.0f} MiB, after {memory['requests']} requests {mib[1]:.0f} MiB ({memory['growth']:+.1%})"
    )
    return "\n".join(lines)


@contextmanager
def _server(config: str | None) -> Iterator[int]:
    command = [sys.executable, str(ROOT / "tools" / "serve.py"), *([config] if config else []), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            found = next(filter(None, (re.search(r"http://\S+:(\d+)", line) for line in process.stdout)), None)
            if found is None:
                raise CovidmmError(f"{' '.join(command[1:])} did not start; run it to see why")
            yield int(found[1])
        finally:
            process.terminate()


def _ask_all(port: int, content: bytes, requests: int, clients: int) -> tuple[list[float], float]:
    """Seconds of each request, and of all together."""
    start = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(lambda _: _ask(port, content), range(requests)))
    return seconds, time.monotonic() - start


def _ask(port: int, content: bytes) -> float:
    body = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'.encode()
    body += content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    start = time.monotonic()
    status, answer = _fetch(port, "POST", "/api/v1/predict", body, headers)
    if status != http.HTTPStatus.OK:
        raise CovidmmError(f"the server answered {status}: {answer[:200].decode(errors='replace')}")
    return time.monotonic() - start


def _memory(port: int) -> float:
    _, text = _fetch(port, "GET", "/metrics")
    return float(re.search(rb"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)[1])


def _fetch(port: int, method: str, path: str, body: bytes | None = None, headers: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _summary(seconds: list[float], total: float) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, (50, 95))
    return {"p50": float(p50), "p95": float(p95), "per_second": len(seconds) / total}
