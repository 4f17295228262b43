"""What tests run: Python in a process of its own, and the `shrinkkit` command in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from shrinkkit.cli.app import app

ROOT = Path(__file__).resolve().parents[1]


def start_python(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start Python on this checkout's package, its outputs in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_once(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Kill a process outright as soon as it has come so far, in two minutes at most."""
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "not so far in two minutes"
        time.sleep(0.005)
    process.kill()


def run_python(
    *arguments: object, cwd: Path | None = None, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python on this checkout's package to its end, in seconds `timeout` at most."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a port of this machine; yield the address, such as http://127.0.0.1:40123."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def invoke(*arguments: object) -> Any:
    """Run the `shrinkkit` command; return its exit code, output and exception."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def succeed(*arguments: object) -> str:
    """Run the `shrinkkit` command, which has to succeed; return what it printed."""
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refuse(says: str, *arguments: object) -> None:
    """Run the `shrinkkit` command, which has to end with 1 and a message, without a traceback."""
    done = invoke(*arguments)
    assert done.exit_code == 1
    assert says in done.output
    assert "Traceback" not in done.output


def write_words(folder: Path, n_files: int, n_words: int) -> Path:
    """Write small texts, no two alike, into a folder; return it."""
    folder.mkdir(exist_ok=True)
    for number in range(n_files):
        words = " ".join(f"word{(number + i * i) % 17} and" for i in range(n_words))
        (folder / f"{number}.txt").write_text(words)
    return folder
