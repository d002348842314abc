# What there is to do here. `make help` reads like a table of contents; CI calls `make check` and `make test` only.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
# Two workers: most tests wait for a process to start (tests/fixtures/workers.py says which stay together).
PYTEST := $(PY) -m pytest --numprocesses=2 --dist=loadscope --no-loadscope-reorder
export PYTHONUNBUFFERED = 1

##@ The two commands

demo: setup  ## set up, then the whole loop: documents -> three evaluated adapters -> answers, with a report
	@.venv/bin/anneal demo

test: setup  ## set up, then every test; skips are listed by name
	@$(PYTEST) $(TESTS)

chart: setup  ## the Helm chart: lint, render, validate, and all that tests/chart says of it
	@$(PY) -m pytest tests/chart

test-cluster: setup  ## the job cases on the cluster that KUBECONFIG names; without one they are skipped by name
	@$(PY) -m pytest tests/cluster

##@ While working

setup:  ## create .venv from the lock (once; later runs install nothing)
	@command -v python3 >/dev/null || { echo "setup: python3 is not on PATH; Python 3.11 is needed" >&2; exit 1; }
	@python3 deploy/local/setup.py

fast: setup  ## only the tests that start no engine, no Ray and no whole loop
	@$(PYTEST) -m "not vllm and not ray and not e2e" $(TESTS)

test-monitoring: setup  ## a real Prometheus on the small loop: every panel, every rule (needs Debian's package prometheus)
	@$(PYTEST) -m monitoring $(TESTS)

test-real-model: setup  ## a real model as teacher and as judge (minutes)
	@ANNEAL_TEST_REAL_MODEL=1 $(PY) -m pytest -m real_model $(TESTS)

format: setup  ## write the code the way ruff formats it
	@$(PY) -m ruff check --fix --quiet
	@$(PY) -m ruff format --quiet

protos: setup  ## generate services/anneal/v1 from protos/
	@$(PY) deploy/local/protos.py write

engine-models: setup  ## write the table of what the installed vLLM serves, which training reads
	@$(PY) -m deploy.local.engine_models write

chat-templates: setup  ## write docs/chat-templates.md: what can be trained with which family's template
	@$(PY) -m tests.fixtures.families.report write

chart-files: setup  ## write the chart's values.schema.json and its table of values
	@$(PY) -m deploy.local.chart write

up: setup  ## start every service on this machine (Ctrl-C stops them)
	@.venv/bin/anneal up

##@ Checks (make check runs them all)

check: setup lint types imports dependencies contract yaml  ## everything that needs no running part
	@echo "check: all passed"

lint:  ## ruff: rules and format
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check --quiet || { $(PY) -m ruff format --check; exit 1; }

types:  ## mypy, strict, over services and tests
	@$(PY) -m mypy

imports:  ## import-linter: who may know whom
	@.venv/bin/lint-imports --no-cache

dependencies:  ## deptry: what is imported is declared, what is declared is imported
	@.venv/bin/deptry services --no-ansi

contract:  ## buf lint, breaking changes against the last release, and fresh generated code
	@$(PY) deploy/local/protos.py lint
	@$(PY) deploy/local/protos.py check

yaml:  ## yamllint
	@.venv/bin/yamllint --strict $$(git ls-files '*.yaml' '*.yml')

##@ Images

images:  ## build the images with docker, podman or buildah; TARGETS="cpu" (default), "all" or their names
	@python3 deploy/images/build.py $(TARGETS) $(if $(CLEAN),--clean)

base-image:  ## a Debian base for them by debootstrap, where no image registry can be reached (needs root)
	@bash deploy/images/base.sh

test-containers: setup  ## what the chart renders, run in its images with PostgreSQL and S3, and the loop across it (podman, as root)
	@ANNEAL_TEST_CONTAINERS=1 $(PY) -m pytest --capture=no tests/containers

gpu-check:  ## what needs a GPU: the parity certificate with CUDA's vLLM in bfloat16 (torch, transformers, peft, vllm only)
	@PYTHONPATH=services:. $(if $(wildcard $(PY)),$(PY),python3) -m tests.gpu $(CHECKS)

##@ Now and then

bench: setup  ## measure throughputs; prints them and keeps them in benchmarks/results/
	@$(PY) -m benchmarks

bench-curation: setup  ## curation beside its peers, on the docstrings of this environment (half an hour; installs the peers)
	@$(PY) -m benchmarks.curation

lock:  ## resolve the locks in deploy/envs again: everything, and one per image (needs uv)
	@bash deploy/local/lock.sh

clean:  ## remove what can be made again, .venv included
	@rm -rf .venv build dist report .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find services tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z-]*:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST); echo

.PHONY: gpu-check engine-models bench-curation demo test test-real-model setup fast test-monitoring test-cluster test-containers chart format protos chat-templates chart-files up check lint types imports dependencies contract yaml images base-image bench lock clean help
