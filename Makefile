# shrinkkit: the commands of the course. Needs make and python3 (3.10 to 3.13), nothing else.
# The work is done by small scripts in tools/, so that this file reads as a list.
# OMP_WAIT_POLICY: torch's threads sleep while they wait instead of spinning, which on a busy machine
# makes tests several times faster; nothing that is timed for a report runs under it.

PY = .venv/bin/python
UNIT = not notebooks and not browser and not nbgrader

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env lab test check notebooks release clean

help: ## this list
	@echo "shrinkkit: a course on making language models small"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

lab: env ## open the course in JupyterLab (the first time also installs it into .venv)
	@$(PY) tools/lab.py

test: env ## everything: style, unit tests, every lesson, every exercise, a real browser
	@CHROME="$$($(PY) tools/browser.py)" && export CHROME && \
	$(PY) -m ruff check --quiet . && $(PY) -m ruff format --quiet --check . && \
	OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest --durations=15

check: env ## style and unit tests, in under two minutes
	@$(PY) -m ruff check --quiet . && $(PY) -m ruff format --quiet --check . && \
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -m "$(UNIT)"

notebooks: env ## run every lesson in order and save its outputs (not made by hand: minutes)
	@$(PY) tools/run_notebooks.py --save

release: env ## make the students' exercises from the solutions; REPO=owner/name stamps a fork
	@$(PY) tools/release.py $(if $(REPO),--repo $(REPO))

env: ## install into .venv what the course needs (every command above does so by itself)
	@PYTHON="$(PYTHON)" sh tools/setup.sh

clean: ## remove .venv and everything else that can be made again
	@rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
