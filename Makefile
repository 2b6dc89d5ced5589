# New users need only `make caption`, `make train` and `make test`.
.PHONY: install train caption test test-slow lint docs test-backends oracle serve

PYTHON ?= $(shell command -v python3.11 || command -v python3)

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("make install: Python 3.11 or newer is needed, found %d.%d; set PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --upgrade pip
	.venv/bin/pip install --quiet --editable '.[all]'
	touch .venv/installed

train: install
	.venv/bin/python train.py

# Captions photographs with the captioner of the package: make caption IMAGE=photo.jpg
IMAGE ?=
caption: install
	@test -n "$(IMAGE)" || { echo "make caption: name a photograph: make caption IMAGE=photo.jpg"; exit 2; }
	.venv/bin/python -m keras_aoa.caption flickr8k "$(IMAGE)" --pictures attention

# Commands choose the level themselves.
test test-slow test-backends: export TF_CPP_MIN_LOG_LEVEL ?= 2

# Two processes; each test file stays in one of them, and long files start first.
IN_PARALLEL = --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: install
	.venv/bin/python -m pytest $(IN_PARALLEL)

test-slow: install
	.venv/bin/python -m pytest -m slow

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Builds the documentation; open build/docs/index.html. Warnings and broken links are errors.
docs: .venv/installed-docs
	rm -rf build/docs
	CUDA_VISIBLE_DEVICES= .venv/bin/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet \
		--doctree-dir build/doctrees docs build/docs

.venv/installed-docs: .venv/installed requirements-docs.txt
	.venv/bin/pip install --quiet -r requirements-docs.txt
	touch .venv/installed-docs

# Tests of the layers on JAX and on PyTorch; `make test` runs them on TensorFlow. The environments
# have no TensorFlow, which also verifies that the layers need only keras.
JAX_CACHE = JAX_COMPILATION_CACHE_DIR=.venv-jax/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
test-backends: .venv-jax/installed .venv-torch/installed
	KERAS_BACKEND=jax $(JAX_CACHE) .venv-jax/bin/python -m pytest $(IN_PARALLEL) tests/layers
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest $(IN_PARALLEL) tests/layers

.venv-%/installed: requirements-%.txt pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --upgrade pip
	.venv-$*/bin/pip install --quiet -r requirements-$*.txt
	.venv-$*/bin/pip install --quiet --editable .
	touch .venv-$*/installed

# `make .venv-beam/installed` uses the rule above for `python -m keras_aoa.caption --runner`, and
# `make .venv-peers/installed` for `python -m benchmarks.peers`.

# Serves the newest version in MODEL on http://127.0.0.1:8501/v1/models/captioner:predict. With
# HOST=0.0.0.0, the server accepts requests from all networks.
MODEL ?= exported
HOST ?= 127.0.0.1
serve: .venv-serve/installed
	.venv-serve/bin/python export/server.py $(MODEL) --host $(HOST)

.venv-serve/installed: requirements-serve.txt
	@echo "make serve: installing the server into .venv-serve, which takes minutes ..."
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/pip install --quiet --upgrade pip
	.venv-serve/bin/pip install --quiet -r requirements-serve.txt
	touch .venv-serve/installed

# Regenerates the golden values of the tests with TensorFlow Addons; the result is deterministic.
oracle: .venv-oracle/installed
	.venv-oracle/bin/python tests/support/oracle.py

# This environment does not install keras_aoa, which cannot run on Keras 2.
.venv-oracle/installed: requirements-oracle.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; v[:2] == (3, 11) or sys.exit("make oracle: Python 3.11 is needed, found %d.%d; set PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/pip install --quiet --upgrade pip
	.venv-oracle/bin/pip install --quiet -r requirements-oracle.txt
	touch .venv-oracle/installed
