# `make nightly` is the whole way; `make help` lists the rest.
SHELL := /bin/bash
SOURCE ?=
DATA ?=
AS_OF ?=
HOME_DIR ?=
PARAMS ?=
AIRFLOW_PORT ?= 8080
MLFLOW_PORT ?= 5000
DASHBOARD_PORT ?= 8050
WORKERS ?=

PYTHON := .venv/bin/python
ENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
AT := $(if $(HOME_DIR),--home "$(HOME_DIR)") $(if $(PARAMS),--params "$(PARAMS)")
NIGHT := $(AT) $(if $(SOURCE),--source "$(SOURCE)") $(if $(DATA),--data "$(DATA)") $(if $(AS_OF),--as-of "$(AS_OF)")
PORTS := --airflow-port $(AIRFLOW_PORT) --mlflow-port $(MLFLOW_PORT) --dashboard-port $(DASHBOARD_PORT)

.DEFAULT_GOAL := help
.PHONY: help setup nightly benchmark data repro up down doctor test test-services lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv from requirements.lock and the homes of Airflow and MLflow, once per lock
	@services/setup.sh

nightly: setup  ## run one night: [SOURCE=files DATA=folder] [AS_OF=date] [HOME_DIR=folder]
	@$(ENV) $(PYTHON) -m services nightly $(NIGHT) --airflow-port $(AIRFLOW_PORT)

benchmark: setup  ## run the long benchmark, resumable: [SOURCE=files DATA=folder]
	@$(ENV) $(PYTHON) -m pipelines evidence $(NIGHT)

data: setup  ## write the simulated markets and record them in data.dvc
	@$(ENV) $(PYTHON) -m pipelines data $(NIGHT)

repro: setup  ## reproduce validate, fingerprint, train and benchmark with DVC
	@$(ENV) dvc repro

up: setup  ## start Airflow, MLflow and the dashboard on 127.0.0.1 and leave them running: [WORKERS=2]
	@$(ENV) $(PYTHON) -m services up $(AT) $(PORTS) $(if $(WORKERS),--workers $(WORKERS))

down: setup  ## stop what `make up` started
	@$(ENV) $(PYTHON) -m services down $(if $(HOME_DIR),--home "$(HOME_DIR)")

doctor: setup  ## say what is wrong with a set-up
	@$(ENV) $(PYTHON) -m services doctor $(AT) $(PORTS)

test: setup  ## run the tests that need no server
	@$(ENV) $(PYTHON) -m pytest -m "not services" -n 2 --timeout 600

test-services: setup  ## start the services on ports of their own and run a night in them
	@# the longest files first; files share nothing, and much of a service's test is waiting
	@$(ENV) $(PYTHON) -m pytest -m services -n 2 --dist loadfile --timeout 1200 --durations 12 \
		tests/services/test_workers.py tests/services/test_services.py tests/services

lint: setup  ## ruff, mypy --strict, import-linter; hadolint and compose's schema, all offline
	@$(ENV) ruff check . && $(ENV) ruff format --check .
	@$(ENV) mypy
	@$(ENV) lint-imports
	@$(ENV) hadolint --failure-threshold warning docker/Dockerfile
	@$(ENV) check-jsonschema -q --builtin-schema vendor.compose-spec docker/compose.yaml

clean:  ## remove caches; the environment, data and var/ stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
	@find . -path ./.venv -prune -o -path ./var -prune -o -name __pycache__ -type d -print | xargs rm -rf
