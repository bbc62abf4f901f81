# `make help` lists what there is. Everything runs from a fresh clone: what the tests need and the machine lacks is installed first.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

GO ?= go
# Packages at a time. The tests start servers of their own: two fit two cores.
TEST_P ?= 2
# Tests at a time in a package: most wait for servers, phones and times that run out.
TEST_PARALLEL ?= 4
TEST_TIMEOUT ?= 11m
# What to work on: make test PKG=./internal/store/... RUN=TestLease
PKG ?= ./...
RUN ?=
FUZZ_TIME ?= 20s
BENCH ?= .

GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0

##@ Use

.PHONY: run
run: ## the whole product in one process, with a demo: http://localhost:3000
	$(GO) run ./cmd/standalone

.PHONY: sim
sim: ## the WhatsApp and Telegram simulators by themselves
	$(GO) run ./cmd/simulator

.PHONY: build
build: ## all commands into ./bin
	mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

##@ Test

.PHONY: test
test: setup ## everything, with the race detector (PKG=, RUN= narrow it)
	$(GO) test -race -p $(TEST_P) -parallel $(TEST_PARALLEL) -timeout $(TEST_TIMEOUT) $(if $(RUN),-run '$(RUN)') $(PKG)

.PHONY: race
race: setup ## the same again and again, to find what happens rarely: COUNT=10
	$(GO) test -race -p $(TEST_P) -timeout 60m -count $(or $(COUNT),10) $(if $(RUN),-run '$(RUN)') $(PKG)

.PHONY: faults
faults: setup ## the fault tests with their full numbers; TEST_SOAK=1h lengthens the soak
	TEST_FULL=1 $(GO) test -race -count 1 -p 1 -timeout 60m -v -run '$(or $(RUN),^TestFault)' $(PKG)

.PHONY: fuzz
fuzz: ## every fuzz target, FUZZ_TIME each
	scripts/fuzz.sh $(FUZZ_TIME) $(PKG)

.PHONY: bench
bench: setup ## benchmarks: BENCH=pattern
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -p 1 $(PKG)

.PHONY: cover
cover: setup ## how much the tests reach: coverage/index.html
	mkdir -p coverage
	$(GO) test -p $(TEST_P) -timeout $(TEST_TIMEOUT) -coverpkg=./... -coverprofile=coverage/profile.out $(PKG)
	$(GO) tool cover -html=coverage/profile.out -o coverage/index.html
	$(GO) tool cover -func=coverage/profile.out | tail -1

.PHONY: setup test-setup
setup test-setup: ## install what the tests need
	@scripts/setup.sh

##@ Check

.PHONY: lint
lint: ## golangci-lint, pinned, with the rules of .golangci.yml
	$(GOLANGCI_LINT) run $(PKG)

.PHONY: fmt
fmt: ## format the code: gofumpt, gci
	$(GOLANGCI_LINT) fmt ./...

.PHONY: vet
vet: ## go vet
	$(GO) vet $(PKG)

.PHONY: tidy
tidy: ## go.mod and go.sum to what the code imports
	$(GO) mod tidy
	$(GO) mod verify

.PHONY: vuln
vuln: ## known vulnerabilities in what we use (asks the vulnerability database)
	$(GOVULNCHECK) ./...

.PHONY: ci
ci: ## what must pass before a change lands
	.ci/run

.PHONY: clean
clean: ## remove what was built; caches and ./data stay
	rm -rf bin coverage

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z -]*:.*## / { split($$1, names, " "); printf "  make %-10s %s\n", names[1], $$2 }' $(MAKEFILE_LIST)
