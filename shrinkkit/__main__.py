"""`python -m shrinkkit` is the same as the `shrinkkit` command."""

from __future__ import annotations

from shrinkkit.cli.app import app

if __name__ == "__main__":
    app(prog_name="shrinkkit")
