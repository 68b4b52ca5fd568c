# Everything here needs Go, make, git and gcc (for -race), and make faults strace;
# nothing else.
# make run and make test are the two that matter; both work in a fresh clone.

MODULES  = pkg intake uploader deploy
PACKAGES = $(MODULES:%=./%/...)
PROGRAMS = ./intake/cmd/intake ./uploader/cmd/uploader ./deploy/cmd/local ./deploy/cmd/crashctl

# How many inputs each fuzz target tries. A duration (10m) works too, but then a
# target may fail with "context deadline exceeded" and no input (golang/go#75804,
# mended in Go 1.27), and pass when the time ends within an input that hangs.
FUZZTIME ?= 100000x

GOLANGCI_VERSION = 2.15.0
GOLANGCI         = $(CURDIR)/bin/golangci-lint

.DEFAULT_GOAL = help
.NOTPARALLEL:
.PHONY: help run build test lint golangci-lint fuzz bench crowd faults soak docs docs-check tidy standalone check

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

run: ## start everything on this machine: intake, uploader, NATS, S3
	go build -trimpath -o bin/ ./deploy/cmd/local
	./bin/local

build: ## build every program into bin/
	go build -trimpath -o bin/ $(PROGRAMS)

test: ## run the tests of every module, against a real NATS and a real S3
	go test -race -parallel 8 -timeout 6m $(PACKAGES)

lint: golangci-lint ## run the linters of .golangci.yml
	@status=0; for module in $(MODULES); do \
		(cd $$module && $(GOLANGCI) run ./...) || status=1; \
	done; exit $$status

golangci-lint:
	@[ "$$($(GOLANGCI) version --short 2>/dev/null)" = $(GOLANGCI_VERSION) ] || { \
		echo "building golangci-lint $(GOLANGCI_VERSION), which takes some minutes"; \
		GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION); }

fuzz: ## run every fuzz target for FUZZTIME (100000x)
	@for file in $$(grep -rl --include='*_test.go' '^func Fuzz' $(MODULES)); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$file: $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
		done; \
	done

bench: ## run every benchmark, and then the crowds
	go test -run '^$$' -bench . -benchmem $(PACKAGES)
	$(MAKE) crowd

# Clients, over how long they arrive, how long each takes, and the most memory
# that intake may have had, in MiB.
crowd: ## serve crowds of slow clients and measure intake's memory
	E2E_SLOW=2000,0s,60s,256 go test -tags faults -count=1 -timeout 10m -run TestSlowClients -v ./deploy/e2e
	E2E_SLOW=10000,60s,60s,512 go test -tags faults -count=1 -timeout 10m -run TestSlowClients -v ./deploy/e2e

faults: ## kill and cut off the parts of a Yagi of processes, then audit what was promised
	go test -count=1 -tags faults -timeout 12m ./deploy/e2e

# TestMillion alone takes an hour on two processors, or two thirds of that with
# E2E_BUCKET_DIR=/dev/shm; E2E_REPORTS sets how many reports it posts. It needs
# 16 GB of disk in TMPDIR.
soak: ## the same for longer, a million reports, and what takes long: three hours at most
	E2E_KILLS=50 E2E_HOLD=1 go test -count=1 -tags faults,soak -timeout 180m -v ./deploy/e2e

docs: ## write the table of settings into README.md
	go run ./deploy/docs

docs-check:
	go run ./deploy/docs -check

tidy: ## tidy every go.mod
	for module in $(MODULES); do (cd $$module && GOWORK=off go mod tidy) || exit 1; done

# Each module by itself, as an image builds it. The workspace hides a
# requirement that is missing from a go.mod.
standalone:
	for module in $(MODULES); do \
		(cd $$module && export GOWORK=off && go build ./... && go vet ./... && go mod tidy -diff) || exit 1; \
	done

# The tests come last, so that their verdict ends the output.
check: FUZZTIME = 10000x
check: docs-check standalone lint fuzz faults test ## all that CI runs
