"""tools/lab.py and tools/browser.py: how JupyterLab is started, and which browser is taken."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, run_python
from tools import browser, lab


def line(*arguments: str) -> str:
    return " ".join(lab.command(ROOT, list(arguments)))


def test_jupyterlab_opens_the_first_lesson_with_its_token() -> None:
    assert "/lab/tree/notebooks/00_start_here.ipynb" in line()
    assert "token" not in line()  # so that Jupyter makes one of its own
    assert "password" not in line()
    assert (ROOT / "tools/jupyterlab/overrides.json").is_file()


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)], ids=["root", "a user"])
def test_root_is_allowed_only_where_the_user_is_root(
    monkeypatch: pytest.MonkeyPatch, user: int, allowed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ("--allow-root" in line()) is allowed


@pytest.mark.parametrize("opens", [True, False], ids=["desktop", "headless"])
def test_without_a_display_no_browser_is_opened(
    monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    monkeypatch.setattr(lab, "can_open_browser", lambda: opens)
    assert ("--no-browser" in line()) is not opens
    assert line("--no-browser").count("--no-browser") == 1


@pytest.mark.parametrize(
    ("platform", "environment", "opens"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"BROWSER": "wslview"}, True),
        ("darwin", {}, True),
    ],
)
def test_where_a_browser_can_be_opened(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], opens: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("webbrowser.get", lambda: None)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert lab.can_open_browser() is opens


def test_the_courses_commands_come_first_on_the_path() -> None:
    assert lab.environment()["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_checkout_without_lessons_says_so(tmp_path: Path) -> None:
    done = run_python(ROOT / "tools/lab.py", "--root", tmp_path)
    assert done.returncode == 1
    assert "00_start_here.ipynb is not in" in done.stderr


def program(folder: Path, name: str, does: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH, and no browser anywhere else."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME", raising=False)
    monkeypatch.setattr(browser, "MAC_APPS", ())
    monkeypatch.setattr(browser, "downloaded", lambda: str(tmp_path / "nowhere"))
    return tmp_path


def test_a_browser_that_starts_is_taken(programs: Path) -> None:
    program(programs, "google-chrome", "echo 'install me with snap' >&2; exit 1")  # a placeholder
    working = program(programs, "chromium", "echo Chromium 150.0")
    assert browser.find() == working


def test_the_browser_that_is_named_wins(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "chromium", "echo Chromium 150.0")
    named = program(programs, "mine", "echo Google Chrome 151.0")
    monkeypatch.setenv("CHROME", named)
    assert browser.find() == named


def test_a_named_browser_that_does_not_start_is_refused(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHROME", program(programs, "mine", "echo a text editor"))
    with pytest.raises(SystemExit, match="does not run as a browser"):
        browser.find()


def test_the_browser_that_playwright_downloaded_is_taken(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = program(programs, "own", "echo Chromium 149.0")
    monkeypatch.setattr(browser, "downloaded", lambda: own)
    assert browser.find() == own


def test_no_browser_at_all_says_what_to_install(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(browser, "install", lambda: tried.append(True))
    with pytest.raises(SystemExit, match="apt-get install chromium"):
        browser.main()
    assert tried == [True]


@pytest.mark.parametrize(
    ("user", "programs_there", "commands"),
    [
        (0, ["apt-get"], ["apt-get update", "apt-get install", "playwright install"]),
        (1000, ["apt-get"], ["playwright install"]),
        (0, [], ["playwright install"]),
    ],
    ids=["root on Debian", "a user on Debian", "elsewhere"],
)
def test_ways_to_get_a_browser(
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    programs_there: list[str],
    commands: list[str],
) -> None:
    ran: list[str] = []
    for name in programs_there:
        program(programs, name, "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(subprocess, "run", lambda command, **how: ran.append(" ".join(command)))
    browser.install()
    assert len(ran) == len(commands)
    assert all(wanted in did for wanted, did in zip(commands, ran, strict=True))
