# shrinkkit: the commands of the course. Needs make and python3 (3.10 to 3.13), nothing else.
# The work is done by small scripts in tools/, so that this file reads as a list.

PY = .venv/bin/python
# Two workers of one thread each are a third faster than one of two. OMP_WAIT_POLICY: threads sleep
# while they wait instead of spinning; nothing that is timed for a report runs under it.
STYLE = $(PY) -m ruff check --quiet . && $(PY) -m ruff format --quiet --check .
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n 2

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
	$(STYLE) && $(PYTEST) --durations=15

check: env ## style and all tests but the slow ones, in two minutes
	@$(STYLE) && $(PYTEST) -m "not slow"

notebooks: env ## run every lesson and page in order and save its outputs (not by hand: minutes)
	@$(PY) tools/run_notebooks.py --save

release: env ## make the students' exercises from the solutions; REPO=owner/name stamps a fork
	@$(PY) tools/release.py $(if $(REPO),--repo $(REPO))

env: ## install into .venv what the course needs (every command above does so by itself)
	@PYTHON="$(PYTHON)" sh tools/setup.sh

clean: ## remove .venv and everything else that can be made again
	@rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
