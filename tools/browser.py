"""Print the path of a Chrome or Chromium that runs here, installing one if need be.

`make test` drives JupyterLab in a real browser. In this order:

1. the one that the environment variable CHROME names;
2. one that is installed already;
3. one that playwright downloaded earlier;
4. Debian's and Ubuntu's `chromium` package by apt-get, where the user may (root);
5. playwright's own download;
6. else a message that says what to install, and exit code 1.

Each candidate is started once (`--version`): a launcher whose browser is missing, as Ubuntu's
placeholder package is, does not count. The path goes to stdout, the story to stderr.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome")
MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# A browser for tests: no sandbox (it needs kernel rights that containers lack), and nothing said
# to its maker.
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
NONE_FOUND = """\
No Chrome or Chromium was found, and none could be installed here. Install one and run the same
command again:
  Debian, Ubuntu   sudo apt-get install chromium
  Fedora           sudo dnf install chromium
  macOS            brew install --cask google-chrome
  anywhere         .venv/bin/python -m playwright install chromium
or name one that is there:  CHROME=/path/to/chrome make test"""


def runs(path: str) -> bool:
    """Tell whether the browser at `path` starts."""
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "chrom" in answer.stdout.lower()


def installed() -> Iterator[str]:
    """Yield where a Chrome or Chromium may be, likeliest first."""
    for name in NAMES:
        if path := shutil.which(name):
            yield path
    yield from (path for path in (*MAC_APPS, downloaded()) if Path(path).exists())


def downloaded() -> str:
    """Return where playwright keeps its own download, whether or not there is one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def find() -> str | None:
    """Return the path of a browser that runs, or None.

    Raises SystemExit: CHROME names something that does not run.
    """
    given = os.environ.get("CHROME")
    if given:
        path = shutil.which(given) or given
        if not runs(path):
            sys.exit(f"CHROME={given} does not run as a browser; correct it, or unset it.")
        return path
    return next(filter(runs, installed()), None)


def install() -> None:
    """Try the ways to get a browser that need no question asked."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("No Chrome or Chromium here: installing Debian's chromium ...", file=sys.stderr)
        quiet = {"stdout": sys.stderr, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"]
        subprocess.run(command, check=False, **quiet)
        if find():
            return
    print("No Chrome or Chromium here: asking playwright for one ...", file=sys.stderr)
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    subprocess.run(command, check=False, stdout=sys.stderr)


def main() -> None:
    path = find()
    if not path:
        install()
        path = find()
    if not path:
        sys.exit(NONE_FOUND)
    print(path)


if __name__ == "__main__":
    main()
