"""Open the course in JupyterLab, on the first lesson. Run by `make lab`.

Token authentication stays on: the address that is opened, or printed where no browser can be
opened, holds a token made for this one run. Whatever else is given goes to JupyterLab::

    python tools/lab.py --no-browser --port 9000
"""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST_LESSON = "notebooks/00_start_here.ipynb"


def can_open_browser() -> bool:
    """Tell whether a graphical browser can be opened here."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("BROWSER")
    ):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def command(root: Path, arguments: list[str]) -> list[str]:
    """Return the command that starts JupyterLab on the first lesson in `root`."""
    line = [sys.executable, "-m", "jupyterlab", "--log-level=WARN"]
    line += [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}"]
    # Its defaults for the course: no news and no newer version are looked for elsewhere.
    line += [f"--LabApp.app_settings_dir={Path(__file__).resolve().parent / 'jupyterlab'}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line += ["--allow-root"]
    if not can_open_browser() and "--no-browser" not in arguments:
        line += ["--no-browser"]
    return line + arguments


def environment() -> dict[str, str]:
    """Return the environment with this Python's commands first, for `!shrinkkit` in a lesson."""
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path, "JUPYTER_PREFER_ENV_PATH": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the course's folder")
    options, arguments = parser.parse_known_args()
    if not (options.root / FIRST_LESSON).is_file():
        sys.exit(f"{FIRST_LESSON} is not in {options.root}: is the checkout complete?")
    line = command(options.root.resolve(), arguments)
    print("JupyterLab is starting; Ctrl-C here ends it.", flush=True)
    if "--no-browser" in line:
        print("Open the address that it prints below, with its token, in a browser.", flush=True)
    os.execve(line[0], line, environment())


if __name__ == "__main__":
    main()
