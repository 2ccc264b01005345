# The two commands of a newcomer are `make demo` and `make test`. Both need Python 3.11 or newer and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo demo-mlflow check test test-slow test-all test-real coverage simulate soak bench lint audit lock dist sbom chart licenses docs image clean

# Environments from hashed locks, rebuilt only when a lock has changed. The package itself runs from the tree. Locks are complete; without
# --no-deps, older versions of pip resolve coverage[toml] again and refuse a newer version, which has no hash.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

$(VENV)/.demo: requirements/demo.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --no-deps --require-hashes -r requirements/demo.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## the whole thing on this machine, with nothing but Python
	$(BIN)/python -m daemon demo $(ARGS)

# An environment of its own: MLflow brings 1 GB of packages.
MLFLOW_VENV ?= .venv-mlflow

$(MLFLOW_VENV)/.demo: requirements/demo-mlflow.txt
	$(PYTHON) -m venv $(MLFLOW_VENV)
	$(MLFLOW_VENV)/bin/python -m pip --quiet --disable-pip-version-check install --no-deps --require-hashes -r requirements/demo-mlflow.txt
	@touch $@

demo-mlflow: $(MLFLOW_VENV)/.demo ## the same with a real MLflow server
	$(MLFLOW_VENV)/bin/python -m daemon demo --target mlflow $(ARGS)

# One worker more than there are cores, because the tests also wait. Those against real servers wait most of the time; those that share one are a group (xdist_group) and stay in one process.
PYTEST = $(BIN)/python -m pytest --durations=10
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PARALLEL := --numprocesses=$(WORKERS) --dist=worksteal

check: lint ## in under a minute: lint and the fast unit tests
	$(PYTEST) $(PARALLEL) -m "not slow" tests/unit tests/checkpoint $(ARGS)

test: $(VENV)/.dev ## in a few minutes: every test that needs no server from outside, but not the slow ones
	$(PYTEST) $(PARALLEL) -m "not slow" $(ARGS)

test-slow: $(VENV)/.dev ## the tests that `make test` leaves out, but not those of containers; one whose environment variable is not set says so and is skipped
	$(PYTEST) $(PARALLEL) -m slow --ignore=tests/real --ignore=tests/containers $(ARGS)
	$(PYTEST) --numprocesses=4 --dist=loadgroup tests/real $(ARGS)

test-all: test test-slow ## every test but those of containers

test-real: $(VENV)/.dev ## tests against real servers and containers, one after the other; ARGS names some of them
	$(PYTEST) $(or $(ARGS),tests/real tests/containers)

coverage: $(VENV)/.dev ## make test, with a report of the lines of daemon/ that it does not reach (Python 3.12 and newer); the slow tests would take too long
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --durations=10 $(PARALLEL) -m "not slow" $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

SEEDS ?= 1000
MINUTES ?= 60

simulate: $(VENV)/.dev ## SEEDS long histories of the simulated daemon with each target; tests/simulation/__main__.py says what else there is
	$(BIN)/python -m tests.simulation histories --seeds $(SEEDS) $(ARGS)

soak: $(VENV)/.dev ## chaos with the real daemon and real servers, for MINUTES; tests/soak/__main__.py says which variables name them
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

bench: $(VENV)/.dev ## the daemon beside other consumers, on this machine (docs/performance.md); ARGS="--quick" takes 3 minutes
	$(BIN)/python -m benchmarks.bench $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: ## known vulnerabilities of what requirements/runtime.txt installs; says so where no advisory service can be reached
	$(PYTHON) -m tools.audit --home $(VENV)/audit $(ARGS)

COMPILE := -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

lock: ## updates requirements/*.txt from pyproject.toml (needs pip-tools; run it with the oldest supported Python)
	$(PYTHON) $(COMPILE) --upgrade --only-build-deps --build-deps-for wheel --build-deps-for sdist -o requirements/build.txt pyproject.toml
	$(PYTHON) $(COMPILE) --upgrade -o requirements/runtime.txt pyproject.toml
	$(PYTHON) $(COMPILE) -c requirements/runtime.txt --extra demo -o requirements/demo.txt pyproject.toml
	$(PYTHON) $(COMPILE) -c requirements/runtime.txt --extra demo --extra demo-mlflow -o requirements/demo-mlflow.txt pyproject.toml
	$(PYTHON) $(COMPILE) -c requirements/demo.txt -c requirements/build.txt --extra demo --extra dev -o requirements/dev.txt pyproject.toml

# The version is defined only there.
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' daemon/__init__.py)

dist: $(VENV)/.dev ## wheel and source archive, in dist/
	$(BIN)/python -m hatchling build -d dist

sbom: $(VENV)/.dev ## bill of materials of the runtime lock (CycloneDX), in dist/
	$(BIN)/python -m tools.sbom dist/sagemaker-modeldb-sync.cdx.json

chart: ## package of the Helm chart, in dist/
	helm package deploy/helm --destination dist

docs: $(VENV)/.dev ## writes docs/configuration.md from the settings
	$(BIN)/python -m tools.configuration_docs

licenses: $(VENV)/.dev ## writes docs/third-party-licenses.md (after make lock)
	{ printf '# Licences of the runtime dependencies\n\nWhat `requirements/runtime.txt` installs, as the packages declare it. Written by `make licenses`; their texts are in the image, in each\npackage'"'"'s `dist-info`. The base image (Python, Debian) has its own, in `/usr/share/doc/*/copyright`.\n\n'; \
	  $(BIN)/pip-licenses --format=markdown --packages $$(sed -n 's/^\([a-z0-9._-]*\)==.*/\1/p' requirements/runtime.txt); } > docs/third-party-licenses.md

image: ## the container image, as sagemaker-modeldb-sync:latest
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) -t sagemaker-modeldb-sync .

clean:
	rm -rf $(VENV) $(MLFLOW_VENV) .mypy_cache .ruff_cache .pytest_cache .coverage* htmlcov build dist
