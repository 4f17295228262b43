"""Make pip forget every package of this environment whose files are not all there.

pip writes a package's files one by one. Stopped half-way (a closed lid, a full disk), it may
leave a package that it takes for installed and that cannot be imported. Here each package's own
list of files is compared with the disk; where one is missing or short, the package's metadata is
removed, so that the next `pip install` writes the package again. Run by tools/setup.sh after an
installation that did not finish.
"""

from __future__ import annotations

import shutil
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path


def is_whole(package: Distribution) -> bool:
    """Tell whether every file that the package lists is there, in its full size."""
    if package.files is None or not package.metadata["Name"]:
        return False
    for file in package.files:
        if file.suffix == ".pyc":  # compiled copies may come and go
            continue
        path = Path(str(file.locate()))
        if not path.exists() or (file.size is not None and path.stat().st_size != file.size):
            return False
    return True


def main() -> None:
    site_packages = Path(sysconfig.get_path("purelib"))
    for package in list(distributions(path=[str(site_packages)])):
        folder = Path(str(package.locate_file(""))) / package._path.name
        if not is_whole(package):
            print(f"  {folder.name.removesuffix('.dist-info')} will be installed again")
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
