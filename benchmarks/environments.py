"""One virtual environment for each library that we compare with: their pins do not go together.

Each library is installed at a fixed version beside the torch that the course is tested with, which
goes in first and is held by a constraint, so that no library swaps it for another build. What pip
says is kept beside the environment. An environment that is complete is not made again; one that
cannot be made gives the reason, which becomes a row of the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
TRANSFORMERS = "transformers==5.17.0"  # the newest that all of them accept


@dataclass(frozen=True)
class Library:
    """Say what pip has to install for one library.

    name: of the environment and of its driver, benchmarks/drivers/use_NAME.py.
    package: the pinned package, whose version the rows name.
    others: what else it needs, pinned.
    first: what has to be there before it is built.
    options: for pip, when the package itself is installed.
    environment: variables that its driver runs with.
    """

    name: str
    package: str
    others: tuple[str, ...] = (TRANSFORMERS,)
    first: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


LIBRARIES = (
    Library("hqq", "hqq==0.2.8.post1"),
    Library("quanto", "optimum-quanto==0.2.7"),
    Library("llmcompressor", "llmcompressor==0.14.0.1"),
    Library("autoround", "auto-round==0.16.1"),
    Library(
        "gptqmodel",
        "gptqmodel==7.6.0",
        first=("setuptools>=80", "wheel", "ninja", "packaging"),
        options=("--no-build-isolation",),
        environment=(("GPTQMODEL_CPU_WORKERS", "2"),),
    ),
)


def commands(library: Library, folder: Path, python: Path) -> list[list[str]]:
    """Return the commands that make an environment, in order."""
    held = ["--constraint", str(folder / "held.txt")]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-compile", *held]
    venv = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder / "env")]
    found = [venv, [*pip, TORCH]]
    if library.first:
        found.append([*pip, *library.first])
    return [*found, [*pip, *library.options, library.package, *library.others]]


def make(library: Library, cache: Path) -> tuple[Path | None, str]:
    """Make an environment unless it is there: (its python, "") or (None, why it failed)."""
    folder = cache / library.name
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    recipe = json.dumps([asdict(library), TORCH])
    done = folder / "done.json"
    if python.exists() and done.exists() and done.read_text() == recipe:
        return python, ""
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    (folder / "held.txt").write_text(TORCH + "\n")
    with open(folder / "pip.log", "w") as log:
        for command in commands(library, folder, python):
            if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                log.flush()
                return None, last_line((folder / "pip.log").read_text())
    done.write_text(recipe)
    return python, ""


def last_line(text: str) -> str:
    """Return the line of a failed command's output that says most about why.

    That is what a package depends on where pip found a conflict, else pip's last error, else the
    last line that is not empty, where a traceback has its error.

    >>> last_line("Traceback ...\\n  File x\\nValueError: no\\n\\n")
    'ValueError: no'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    conflicts = [line for line in lines if " depends on " in line]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (conflicts[:1] or errors or lines or ["no output"])[-1][:300]
