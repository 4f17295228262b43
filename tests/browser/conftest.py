"""JupyterLab as `make lab` starts it, on a copy of the lessons, and a real browser to drive it.

Each test ends its kernels, and the file its server and its browser: gigabytes, otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.processes import ROOT
from tools.browser import FLAGS, NONE_FOUND, find

START_S = 90


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address, its token, its folder, and what it printed."""

    address: str
    token: str
    folder: Path
    log: Path

    def end_kernels(self) -> None:
        """Close every notebook's session, and its kernel with it."""
        for session in json.loads(self._ask("GET", "api/sessions")):
            self._ask("DELETE", f"api/sessions/{session['id']}")

    def _ask(self, method: str, path: str) -> bytes:
        key = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.address + path, headers=key, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing of the user's own Jupyter is read or written."""
    names = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "SHRINKKIT_RESULTS": "results",
    }
    own = {name: str(folder / place) for name, place in names.items()}
    return os.environ | own | {"SHRINKKIT_PACE": "quick"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _announcement(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> dict[str, str]:
    """Return what the server wrote about itself, once it has."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text())
            except ValueError:  # it is being written
                pass
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start within {START_S} s:\n{log.read_text()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab on a copy of notebooks/, so that the committed ones stay as they are."""
    home = tmp_path_factory.mktemp("jupyter")
    course = home / "course"
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", course / "notebooks", ignore=ignored)
    log = home / "log.txt"
    command = [sys.executable, str(ROOT / "tools" / "lab.py"), "--root", str(course)]
    command += ["--no-browser", f"--ServerApp.port={_free_port()}"]
    command += ["--LabApp.expose_app_in_browser=True"]  # lets a test wait for what it sees
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=_environment(home), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    try:
        about = _announcement(process, home / "runtime", log)
        yield Server(about["url"], about["token"], course, log)
    finally:
        process.send_signal(signal.SIGTERM)  # the server ends its kernels with it
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        pytest.fail(NONE_FOUND)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(server: Server, browser: Browser) -> Iterator[Page]:
    """A page of its own; it fails where anything is asked of another host than this machine."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(30_000)
    elsewhere: list[str] = []

    def asked(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme.startswith("http") and address.hostname not in ("127.0.0.1", "localhost"):
            elsewhere.append(request.url)

    context.on("request", asked)
    yield context.new_page()
    context.close()
    server.end_kernels()
    assert elsewhere == [], "a lesson or JupyterLab asked another host for something"
