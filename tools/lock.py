"""Write requirements.txt (exact versions of everything, Python 3.10 to 3.13) from pyproject.toml.

pyproject.toml says what is needed, with loose lower bounds; requirements.txt says what the course
is tested with. This script makes the second from the first, with uv's universal resolver (one
file for every Python and platform, told apart by environment markers)::

    pip install uv
    python tools/lock.py                    # keeps the versions that are pinned already
    python tools/lock.py --upgrade          # takes the newest of everything but torch
    python tools/lock.py --upgrade-package transformers

torch keeps its one version, given here. The CUDA packages that torch itself asks for on some
machines are left out: torch pins them exactly, and a CPU build of torch does not want them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
TORCH = "torch==2.13.0"
EXTRAS = ("course", "lab", "test")
# What only CUDA builds of torch ask for (nvidia-ml-py is codecarbon's), and Python in the browser.
LEFT_OUT = re.compile(r"^(cuda-\w+|triton|nvidia-(?!ml-py)[\w-]+)==|== 'emscripten'$")

HEADER = f"""\
# Everything in the course's environment, exactly: {TORCH} first, then what pyproject.toml names,
# then what those need. Python 3.10 to 3.13. Made by tools/lock.py; `make lab` installs it.
"""


def compile_lock(arguments: list[str]) -> list[str]:
    """Return uv's universal resolution of pyproject.toml with its extras, one pin a line."""
    uv = shutil.which("uv") or sys.exit("tools/lock.py needs uv: pip install uv")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "requirements.txt")
        if REQUIREMENTS.exists():  # uv reads the pins of an existing output file as preferences
            shutil.copy(REQUIREMENTS, output)
        constraints = Path(folder, "constraints.txt")
        constraints.write_text(f"{TORCH}\n")
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"]
        command += ["--no-annotate", "--no-header", "--constraints", str(constraints)]
        command += [word for extra in EXTRAS for word in ("--extra", extra)]
        command += [*arguments, "--output-file", str(output), str(ROOT / "pyproject.toml")]
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            sys.exit("uv found no set of versions that fits; requirements.txt is as it was")
        return output.read_text().splitlines()


def direct_names() -> set[str]:
    """Return the names that pyproject.toml asks for itself, normalised."""
    text = (ROOT / "pyproject.toml").read_text()
    names = re.findall(r'^\s*"([A-Za-z0-9._-]+)[><=]', text, flags=re.MULTILINE)
    return {name.lower().replace("_", "-") for name in names}


def main() -> None:
    pins = [pin for pin in compile_lock(sys.argv[1:]) if not LEFT_OUT.search(pin)]
    pins.remove(TORCH)
    direct = direct_names()
    named = [pin for pin in pins if pin.split("==")[0] in direct]
    needed = [pin for pin in pins if pin not in named]
    parts = [HEADER + TORCH, "# What pyproject.toml names", *named, "# What those need", *needed]
    REQUIREMENTS.write_text("\n".join(parts) + "\n")
    print(f"requirements.txt: torch, {len(named)} lines named and {len(needed)} needed by them")


if __name__ == "__main__":
    main()
