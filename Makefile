# The commands of this project; `make` lists them. Each does its own set-up and may be run first.

VENV ?= .venv
FILE ?=
PORT ?=
ARGS ?=
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help serve test e2e cluster-up cluster-down cluster-images check format manual clean environment

help:  ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# Quoted twice in `make serve FILE='/var/log/*.log'`: set -f leaves the glob for the server, which sees new files too.
serve:  ## follow FILE and serve it: make serve FILE=/var/log/dpkg.log [PORT=9000] [ARGS='--tail 100 ...']
	@if [ -z "$(FILE)" ]; then echo "make serve: say which file: make serve FILE=/var/log/dpkg.log" >&2; exit 2; fi
	@.ci/environment $(VENV)
	@set -f; exec $(BIN)/logstream serve $(if $(PORT),--port $(PORT)) $(ARGS) -- $(FILE)

# Several at a time: most tests wait most of the time, for a file to be looked at or for nothing to come.
test: environment  ## run the tests: make test [ARGS='-k cursor']
	@tests/system-packages.sh
	$(BIN)/python -m pytest -n 6 --dist worksteal $(ARGS)

CLUSTER = PYTHONPATH=tests/cluster $(BIN)/python -m testcluster

# Ready programs first: pytest gives no test half an hour. What the machine lacks is for the tests to skip or fail by.
e2e: environment  ## run the tests on a Kubernetes cluster: of this machine, or the one of KUBECONFIG
	@$(CLUSTER) prepare
	$(BIN)/python -m pytest -p no:randomly --timeout=900 tests/cluster $(ARGS)

cluster-up: environment  ## start a Kubernetes cluster on this machine (Debian 12, root); builds it the first time
	@$(CLUSTER) up

cluster-images: environment  ## build the images of server and operator into the cluster
	@$(CLUSTER) images

cluster-down: environment  ## remove the cluster, with everything that is in it
	@$(CLUSTER) down

check: environment  ## look for mistakes without running anything: ruff, mypy, import contracts, what is made from the options
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/logstream manual | cmp -s - docs/logstream.1 || { echo "docs/logstream.1 is old: make manual" >&2; exit 1; }
	@$(BIN)/python docs/generate --check

format: environment  ## lay the code out, and mend what ruff can mend by itself
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

manual: environment  ## write docs/logstream.1 and the tables of docs/configuration.md anew, after a change of options
	$(BIN)/logstream manual > docs/logstream.1
	$(BIN)/python docs/generate

environment:
	@.ci/environment $(VENV) dev,operator

clean:  ## remove everything that these commands made
	rm -rf $(VENV) $(VENV).lock build dist .coverage .hypothesis .import_linter_cache .mypy_cache .schemathesis .pytest_cache .ruff_cache
	find server operator tests -name __pycache__ -type d -prune -exec rm -rf {} +
