.PHONY: install train test lint
PYTHON ?= python3.11
install: .venv/installed
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --upgrade pip
	.venv/bin/pip install --quiet --editable '.[all]'
	touch .venv/installed
