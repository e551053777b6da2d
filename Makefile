# Gatehouse. `make` prints this menu.

GO       ?= go
export CGO_ENABLED ?= 0
PACKAGES := ./...

.PHONY: menu
menu: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 12

.PHONY: build
build: ## bin/gatehouse
	$(GO) build -trimpath -o bin/gatehouse ./cmd/gatehouse

.PHONY: lego
lego: ## bin/gatehouse-lego: with the DNS providers of go-acme/lego (fetches about 130 modules)
	@internal/acme/dns/lego/build

.PHONY: run
run: build ## try it: HTTP 8000, HTTPS 8443, dashboard 8080, all on loopback, nothing else needed
	@./bin/gatehouse quickstart

.PHONY: cluster
cluster: build tools ## the whole story on loopback: etcd, test CA, DNS, Route 53 double, three replicas
	@$(GO) run ./e2e/cluster

.PHONY: kube
kube: tools ## the same on a Kubernetes of its own: real API server, three replicas as pods; prints a kubeconfig (root, Linux)
	@$(GO) run ./e2e/kube

.PHONY: image
image: ## an OCI image for amd64 and arm64, without a container engine: bin/gatehouse-image.tar; IMAGE=-try runs it, arm64 emulated
	@$(GO) run ./e2e/image $(IMAGE)

.PHONY: test
test: tools check ## everything: checks, unit, conformance, end to end (fetches what it needs into .cache/)
	@echo "test: all packages, with the race detector; one at a time, for leases and deadlines in them are real"
	@CGO_ENABLED=1 $(GO) test -race -exec true $(PACKAGES) >/dev/null
	CGO_ENABLED=1 $(GO) test -race -p 1 -timeout 40m $(PACKAGES)
	@echo "test: 200 seeds of whole replicas in simulated time, without the race detector"
	$(GO) test ./internal/acme -run 'TestSimulation$$' -sim.seeds 200
	@echo "test: other people's clients against the built binary"
	cd e2e/suites && $(GO) test -timeout 10m ./...

.PHONY: short
short: ## unit tests only, no other servers, no race detector
	$(GO) test -short $(PACKAGES)

.PHONY: check
check: ## format, vet, staticcheck, known vulnerabilities, layers and sizes
	@test -z "$$(gofmt -l bench cmd e2e examples internal)" || { echo "not gofmt-ed:"; gofmt -l bench cmd e2e examples internal; exit 1; }
	$(GO) vet $(PACKAGES)
	cd e2e/suites && $(GO) vet ./...
	$(GO) tool staticcheck $(PACKAGES)
	@e2e/tools/vulnerabilities
	$(GO) test -count=1 ./internal

.PHONY: tools
tools: ## the real servers tests use, into .cache/ (once)
	@e2e/tools/fetch

.PHONY: bench
bench: build ## side by side with nginx, HAProxy, Caddy, and the binary TRAEFIK names; BENCH=-quick: a minute
	@bench/tools/fetch
	@$(GO) run ./bench -write $(BENCH)

.PHONY: scale
scale: tools ## 5,000 Ingresses on a real API server, beside the Traefik that TRAEFIK names; SCALE='-ingresses 100'
	@$(GO) run ./e2e/scale $(SCALE)

.PHONY: fuzz
fuzz: ## every fuzz target, 30 s each
	@e2e/tools/fuzz 30s

.PHONY: fire
fire: tools ## certificates under fire, some hours: 2,000 seeds, 1,000 kills and stops on each store, 10,000 names, outages; FIRE=-fire.replicas=5
	$(GO) test ./internal/acme -run 'TestSimulation|TestCAIsDown|TestNoLimit|TestRenewalsInTheWindow' -sim.seeds 2000 -sim.long -timeout 3h -v
	$(GO) test ./e2e/fire -fire.kills 1000 -fire.stops 1000 -fire.takeovers 100 -fire.names 10000 -fire.flood 1m -fire.outage 10m -fire.restarts 100 -fire.renewals 200 -timeout 16h -v $(FIRE)

.PHONY: clean
clean: ## what was built, but not .cache/
	rm -rf bin .run
