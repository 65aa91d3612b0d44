# PooledJob. `make help` lists what there is; a fresh machine needs Go, make and
# git, and nothing else.

SHELL := /usr/bin/env bash -o pipefail -e
TOOL := go tool -modfile=hack/tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE ?= pooledjob/manager:$(VERSION)
# The race detector needs a C compiler.
RACE := $(if $(shell command -v $$(go env CC)),-race)
# What people wait for is built with the same settings, so that libraries are compiled once.
GO := CGO_ENABLED=0 go
# Suites whose specs mostly wait run in several processes, each with clusters of its own. The program is of the
# same version as the library.
PROCS ?= 4
E2E_PROCS ?= 3
CHAOS_PROCS ?= 2
POOL_PROCS ?= 2
# The attacks load the machine, and the suite of the local clusters looks at all of it.
ALONE := ./test/hostile ./test/localcluster
# Of all that has no command of its own in `make test` two run at a time, the longest first.
REST = ./test/logs ./cmd/kubectl-pooledjob $(shell go list ./... | grep -vxF "$$(go list ./internal/connpool/... ./controllers ./test/e2e ./test/chaos $(ALONE))")
GINKGO := go run github.com/onsi/ginkgo/v2/ginkgo --no-color --timeout=30m
BUILD := $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN {FS = ":.*## "} /^## / {print "\n" substr($$0, 4)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Try it

.PHONY: demo
demo: localkube build ## Run every sample on one hub and two targets, check the outcomes, clean up (NODES=real: with containerd, as root).
	@$(GO) run -trimpath ./hack/demo run

.PHONY: up
up: localkube build ## Leave a hub, two targets and the manager running to play with (NODES=real: with containerd, as root).
	@$(GO) run -trimpath ./hack/demo up

.PHONY: down
down: ## Stop what `make up` started.
	@$(GO) run -trimpath ./hack/demo down

## Test

.PHONY: test
test: localkube build build-installer test-pool test-controllers test-e2e ## Run every test.
	go test -p 2 $(REST) -timeout 30m
	$(GINKGO) --procs=$(CHAOS_PROCS) ./test/chaos
	go test -p 1 $(ALONE) -timeout 30m

.PHONY: test-unit
test-unit: ## Run the tests that need no clusters.
	go test -short ./...

.PHONY: test-pool
test-pool: localkube ## Run the pool's tests in POOL_PROCS (2) processes, with the race detector where there is a C compiler.
	$(GINKGO) $(if $(RACE),--race) --procs=$(POOL_PROCS) ./internal/connpool
	go test $(RACE) ./internal/connpool/*/ -timeout 15m

.PHONY: test-controllers
test-controllers: localkube ## Run the suite of the reconcilers, in PROCS (4) processes side by side.
	$(GINKGO) --procs=$(PROCS) ./controllers

.PHONY: test-soak
test-soak: localkube ## Look for leaks of the pool in SOAK_CYCLES cycles, or for SOAK_DURATION (such as 24h).
	SOAK_CYCLES=$(or $(SOAK_CYCLES),500) SOAK_DURATION=$(SOAK_DURATION) \
	  go test ./internal/connpool -run Connpool -timeout 0 -v -ginkgo.v -ginkgo.timeout 8760h -ginkgo.label-filter soak

.PHONY: test-many
test-many: localkube build ## Rotate the connection of E2E_ROTATION_JOBS (1500) runs, two thirds of them running at once.
	E2E_ROTATION_JOBS=$(or $(E2E_ROTATION_JOBS),1500) go test ./test/e2e -timeout 1h -v -ginkgo.v \
	  -ginkgo.focus "The connection to a target with many runs"

.PHONY: test-chaos
test-chaos: localkube build ## Break everything for CHAOS_DURATION (30m) with CHAOS_JOBS (600) at a time; CHAOS_SEED repeats a run.
	CHAOS_DURATION=$(or $(CHAOS_DURATION),30m) CHAOS_JOBS=$(or $(CHAOS_JOBS),600) CHAOS_SEED=$(CHAOS_SEED) \
	  go test ./test/chaos -timeout 0 -v -ginkgo.v -ginkgo.timeout 8760h

.PHONY: test-hostile
test-hostile: localkube build ## Attack the manager with every behaviour of a target, a tenant and a reader; best as root, for a memory cgroup.
	HOSTILE=all go test ./test/hostile -timeout 1h -v -ginkgo.v

.PHONY: bench
bench: localkube build ## Measure everything beside the floor and per-task clients (an hour; BENCH="-scenarios=..." for parts). Results go to bench-results/.
	go run ./test/bench $(BENCH)

.PHONY: bench-quick
bench-quick: localkube build ## Check the requests, connections and duplicates that can be counted in two minutes.
	go run ./test/bench -quick

.PHONY: test-e2e
test-e2e: localkube build build-installer ## Run the end-to-end suite only (HUB_KUBECONFIG and TARGET_KUBECONFIGS name other clusters).
	@$(GO) run -trimpath ./hack/demo nodes
	$(GINKGO) --procs=$(if $(HUB_KUBECONFIG),1,$(E2E_PROCS)) ./test/e2e

.PHONY: test-realpods
test-realpods: localkube build ## Run the tests of real Pods only, as root.
	@$(GO) run -trimpath ./hack/demo nodes
	go test ./test/localcluster -timeout 10m -v -run 'RealNode|Container|Kubelet'
	go test ./test/e2e -timeout 10m -v -ginkgo.v -ginkgo.label-filter realpods

.PHONY: lint
lint: ## Check style, import directions and API conventions.
	$(TOOL) golangci-lint-kube-api-linter run ./...
	go tool -modfile=hack/tools/actionlint/go.mod actionlint

.PHONY: check-generated
check-generated: generate ## Fail when generated files are not up to date.
	git diff --exit-code -- api config docs/api.md
	@test -z "$$(git status --porcelain -- api config docs/api.md)" || { git status --short -- api config docs/api.md; exit 1; }

.PHONY: check-image
check-image: ## Check what of the image can be checked without a container engine.
	hack/check-image.sh

## Build

.PHONY: generate
generate: ## Generate deepcopy functions, CRDs and the manager's role.
	$(TOOL) controller-gen object paths=./api/...
	$(TOOL) controller-gen crd:generateEmbeddedObjectMeta=true paths=./api/... output:crd:dir=config/crd
	go run ./hack/apidocs
	$(TOOL) controller-gen rbac:roleName=pooledjob-manager paths=./controllers paths=./controllers/clusterconnection paths=./controllers/pooledjob paths=./internal/hubid paths=./cmd/... output:rbac:dir=config/rbac
	$(TOOL) controller-gen rbac:roleName=pooledjob-logs paths=./controllers/logs output:rbac:dir=config/logs

.PHONY: build
build: ## Build bin/manager and bin/kubectl-pooledjob.
	@$(BUILD) -o bin/manager ./cmd/manager
	@$(BUILD) -o bin/kubectl-pooledjob ./cmd/kubectl-pooledjob
	@ln -sf kubectl-pooledjob bin/kubectl_complete-pooledjob # kubectl looks for this name

.PHONY: localkube
localkube: ## Build the local clusters' programs into bin/ (once; minutes).
	@hack/localkube/build.sh

.PHONY: build-installer
build-installer: ## Render dist/install.yaml for IMAGE.
	@mkdir -p dist
	@$(TOOL) kustomize build config/default | sed 's#image: manager:latest#image: $(IMAGE)#' > dist/install.yaml
	@grep -q 'image: $(IMAGE)' dist/install.yaml
