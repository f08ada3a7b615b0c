# `make demo` and `make test` need Python 3.11 or newer and nothing else; `make help` lists what there is.
VENV := $(or $(SELFATTN_VENV),.venv)
RUN := runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1	/'

setup:  ## the virtual environment, if it is not there yet
	@sh scripts/setup_env.sh

demo: setup  ## train on a small data set, answer, save, load back by AutoModel, and show all of it on a page
	@"$(VENV)/bin/python" scripts/train.py configs/quickstart.yaml --output_dir $(RUN)
	@"$(VENV)/bin/python" scripts/show_answer.py $(RUN)
	@"$(VENV)/bin/python" scripts/show_answer.py $(RUN) --without_package
	@"$(VENV)/bin/python" scripts/report.py $(RUN) --tiny $(RUN) --output $(RUN)/report.html

test: setup  ## all tests, on up to four cores
	@"$(VENV)/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: setup  ## lint, format and types
	@"$(VENV)/bin/python" -m ruff check .
	@"$(VENV)/bin/python" -m ruff format --check .
	@"$(VENV)/bin/python" -m mypy

format: setup  ## put the code in order
	@"$(VENV)/bin/python" -m ruff check --fix .
	@"$(VENV)/bin/python" -m ruff format .

docs: setup  ## the pages of the documentation, into site/
	@NO_MKDOCS_2_WARNING=1 "$(VENV)/bin/python" -m mkdocs build --strict
	@echo "open site/index.html"

clean:  ## remove the environment and what tools left; runs/ stays
	rm -rf "$(VENV)" build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
