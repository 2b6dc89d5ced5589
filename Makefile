# `make train` and `make test` are all that a newcomer needs.
.PHONY: install train test test-slow lint test-backends oracle serve

PYTHON ?= $(shell command -v python3.11 || command -v python3)
export TF_CPP_MIN_LOG_LEVEL ?= 2

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("make install: Python 3.11 or newer is needed, found %d.%d; set PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --upgrade pip
	.venv/bin/pip install --quiet --editable '.[all]'
	touch .venv/installed

train: install
	.venv/bin/python train.py

test: install
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

test-slow: install
	.venv/bin/python -m pytest -m slow

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# The layers' tests on every backend of Keras, each in an environment of its own; no TensorFlow in
# those of JAX and PyTorch, which also shows that layers need keras alone.
JAX_CACHE = JAX_COMPILATION_CACHE_DIR=.venv-jax/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
test-backends: install .venv-jax/installed .venv-torch/installed
	KERAS_BACKEND=tensorflow .venv/bin/python -m pytest tests/layers
	KERAS_BACKEND=jax $(JAX_CACHE) .venv-jax/bin/python -m pytest tests/layers
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest tests/layers

.venv-%/installed: requirements-%.txt pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --upgrade pip
	.venv-$*/bin/pip install --quiet -r requirements-$*.txt
	.venv-$*/bin/pip install --quiet --editable .
	touch .venv-$*/installed

# Apache Beam for `python -m keras_aoa.caption --runner`, by the rule above: .venv-beam/installed

# The newest version in MODEL on http://localhost:8501/v1/models/captioner:predict
MODEL ?= exported
serve: .venv-serve/installed
	.venv-serve/bin/python export/server.py $(MODEL)

.venv-serve/installed: requirements-serve.txt
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/pip install --quiet --upgrade pip
	.venv-serve/bin/pip install --quiet -r requirements-serve.txt
	touch .venv-serve/installed

# The golden values that tests compare with, made anew with TensorFlow Addons; the same each time.
oracle: .venv-oracle/installed
	.venv-oracle/bin/python tests/support/oracle.py

# Without this package, which Addons' Keras 2 cannot run.
.venv-oracle/installed: requirements-oracle.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; v[:2] == (3, 11) or sys.exit("make oracle: Python 3.11 is needed, found %d.%d; set PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/pip install --quiet --upgrade pip
	.venv-oracle/bin/pip install --quiet -r requirements-oracle.txt
	touch .venv-oracle/installed
