# Every target sets up what it needs; a second call finds that done.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run test test-long fuzz screenshots check up down lock secrets compose-up compose-minio compose-down compose-clean test-compose test-compose-faults

PYTHON ?= python3
BIN := .venv/bin
UV := uv==0.13.8
STAMP := .venv/.installed
COMPILE := $(BIN)/uv pip compile -q --generate-hashes --python-version 3.11 --override requirements-overrides.txt \
  --no-emit-index-url --custom-compile-command 'make lock'
LOCK_INPUTS = $$(cat requirements.in requirements-dev.in requirements-overrides.txt | sha256sum | cut -c1-64)

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Set up everything: environment, Java, S3 jars, class-data archive, databases
	@$(BIN)/python -m boostline.local setup

run: $(STAMP) ## Train on 90 days of real flights through Airflow, from nothing to a comparison table
	@$(BIN)/python -m boostline.local demo

test: setup ## Pass all tests but those of test-long, fuzz and test-compose
	$(BIN)/python -m pytest tests/unit tests/dags tests/plugins tests/serving -n 2 --dist loadfile
	$(BIN)/python -m pytest tests/spark -n 2 --dist worksteal
	$(BIN)/python -m pytest tests/e2e

check: $(STAMP) ## Lint, format, types, import layers, lock
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@for lock in requirements.txt requirements-dev.txt; do grep -qxF "# inputs: $(LOCK_INPUTS)" $$lock \
	  || { echo "$$lock is older than its inputs: run make lock"; exit 1; }; done

up: $(STAMP) ## Start the stack with the Airflow UI; prints addresses, user and password
	@$(BIN)/python -m boostline.local up --detach

down: $(STAMP) ## Stop the stack and everything that runs on it
	@$(BIN)/python -m boostline.local down

secrets: ## Generate the compose stack's secrets into docker/secrets (mode 0600); what is there is kept
	@docker/make-secrets.sh

compose-up: secrets ## Build and start the compose stack; prints addresses and where the password is
	@docker/up.sh --build --remove-orphans || { docker compose logs --no-log-prefix preflight init 2>&1 | grep -A 1 '^error:' >&2; exit 1; }
	@[ "$$(docker wait "$$(docker compose ps --all --quiet verify)")" = 0 ] || { docker compose logs --no-log-prefix verify >&2; exit 1; }
	@docker compose logs --no-log-prefix verify | tail -n 1
	@echo "Airflow  http://$$(docker compose port airflow-api 8080)   user admin, password in docker/secrets/airflow-password.json"
	@echo "MLflow   http://$$(docker compose port mlflow 5000)   user admin, password: MLFLOW_ADMIN_SECRET in docker/secrets/secrets.env"
	@echo "Stop it with: make compose-down"

compose-minio: docker/minio/minio docker/minio/mc ## The same stack with MinIO as its S3 server; needs Go
	@COMPOSE_FILE=docker-compose.yaml:docker-compose.minio.yaml $(MAKE) --no-print-directory compose-up

docker/minio/minio: GO_MODULE := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
docker/minio/mc: GO_MODULE := github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9
docker/minio/minio docker/minio/mc:
	@command -v go >/dev/null || { echo "error: MinIO is built from source, and there is no Go. Install Go 1.24 or newer"; exit 1; }
	GOBIN="$(CURDIR)/docker/minio" CGO_ENABLED=0 go install $(GO_MODULE)
	chmod a+rx $@

compose-down: ## Stop the compose stack; its data stays in named volumes
	@docker compose --profile '*' rm --force --stop --volumes && docker compose --profile '*' down --remove-orphans

compose-clean: ## Stop the compose stack and remove its data, after asking
	@read -r -p "Remove the runs, models and data of the compose stack? Type yes: " answer && [ "$$answer" = yes ]
	@docker compose --profile '*' down --remove-orphans --volumes

screenshots: $(STAMP) ## Pictures of the pages into docs/images, from the stack that is up
	$(BIN)/python docs/screenshots.py

test-long: setup ## Approvals by a person, the backfill form and the notebooks, on a stack of their own; minutes
	$(BIN)/python -m pytest tests/e2e -m long

fuzz: $(STAMP) ## Send 10,000 hostile bodies to the REST service
	$(BIN)/python -m pytest tests/serving -m fuzz

test-compose: $(STAMP) ## Bring the compose stack up from nothing and use it; skipped where there is no Docker
	$(BIN)/python -m pytest tests/compose/test_stack.py tests/compose/test_serving.py tests/compose/test_faults.py -m "not slow"

test-compose-faults: $(STAMP) ## What takes longer: each server killed under a job, published figures, upgrade, MinIO, servers elsewhere, rotation, backup, a bare machine
	$(BIN)/python -m pytest tests/compose/test_faults.py tests/compose/test_published.py
	$(BIN)/python -m pytest tests/compose/test_upgrade.py
	$(BIN)/python -m pytest tests/compose/test_minio.py
	$(BIN)/python -m pytest tests/compose/test_elsewhere.py
	$(BIN)/python -m pytest tests/compose/test_keeping.py
	$(BIN)/python -m pytest tests/compose/test_bare_machine.py

lock: $(STAMP) ## Compile the locks: requirements.txt for the image, requirements-dev.txt with the tools beside it
	$(COMPILE) -o requirements-dev.txt requirements-dev.in
	$(COMPILE) -o requirements.txt --constraint requirements-dev.txt requirements.in
	@for lock in requirements.txt requirements-dev.txt; do echo "# inputs: $(LOCK_INPUTS)" >> $$lock; done

# The environment, installed exactly as locked. The stamp is written last, so an interrupted install starts over.
$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), and Boostline needs Python 3.11. Name one: make PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; \
	  else echo "error: Python's venv module is incomplete. Install it (Debian: apt-get install python3-venv)"; exit 1; fi; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv
	@echo "Installing the Python packages of requirements-dev.txt (1.9 GB)"
	@$(BIN)/uv --version 2>/dev/null | grep -q '^$(subst ==, ,$(UV)) ' || $(BIN)/python -m pip install -q $(UV)
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install -q --no-deps --require-hashes -r requirements-dev.txt
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $(STAMP)
