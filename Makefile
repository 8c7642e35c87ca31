# Roster's commands. `make` alone lists them.
GO       ?= go
BIN      := bin/roster
# Begun first, or one processor waits for them in the end.
LONG     := ./storage/mongo ./cmd/roster ./scim ./internal/api
# One package more than there are processors: some wait for processes and outages.
AT_ONCE  := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  := -s -w -X main.version=$(VERSION)
# Nothing of the machine enters the binary, and what is known of the commit is VERSION.
BUILD    := CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
GOLANGCI := v2.15.0
NFPM     := v2.45.2
GOMOD    := v1.10.0
PROMTOOL := v0.316.0
FUZZTIME ?= 30s
# What is left out, or smaller, with the race detector (internal/raced), and where it is.
WHOLE    := TestModel|TestBulkInOrder|TestLargeGroup|TestScriptsOnMongoDB|TestNoChangeWithoutEntry|TestNothingWithoutEntry|TestEveryRoute|TestContract|TestStoresAgree|TestStoresInStep|TestChosenAnswers|TestMove|TestFerretDB|TestStrangersLockNobodyOut|TestNothingSentComesBack|TestReviewSize|TestTenantsApart|TestAsyncInterrupted|TestIDsComeOnce|TestBulkPasswords|TestManyInvitations|TestAnyOrder|TestScimmy|TestWordGone|TestSignInDoesNotGrow|TestNoStepWithoutProof|TestTampering|TestTamperingMongo|TestBombs|TestUpgradeIsInterrupted|TestManyGroupsInAFilter|TestRedefinitionKeeps
WHOLEIN  := ./storage/mongo ./scim ./internal/api ./storage/sqlite ./auth ./internal/audit ./scim/filter
# SQLite translated from C works in memory outside Go's heap, where the race
# detector sees nothing; to look for races in it anyway doubles the time. The check of
# unsafe pointers that comes with the detector is for code that has some: this has none.
# QR codes are drawn by one goroutine, and everybody who enrols gets one.
RACE     := -race -gcflags=all=-d=checkptr=0 -gcflags='modernc.org/sqlite/lib=-race=false' -gcflags='modernc.org/libc/...=-race=false' \
	-gcflags='github.com/boombuler/barcode/...=-race=false' -gcflags=image/png=-race=false

.DEFAULT_GOAL := help
.PHONY: help run build packages package-version reproducible promtool alerts test compile cover lint fuzz bench kill soak nodes timing mutants sequences model imports backups overload suite opinion conformance clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/roster, one static binary
	$(BUILD) -o $(BIN) ./cmd/roster

run: build ## start the server on ./roster-data with a demo client
	$(BIN) serve --store roster-data/roster.db --log-format text --demo $(ARGS)

test: ## vet and run the whole suite in random order: with the race detector, and without it what is left out or small with it
	$(GO) test $(RACE) -p $(AT_ONCE) -vet=all -shuffle=on -timeout 20m $(LONG) ./...
	$(GO) test -vet=off -shuffle=on -timeout 20m -run '^($(WHOLE))$$' $(WHOLEIN)

compile: ## compile what `make test` runs, into Go's cache
	$(GO) list -export -deps -test $(RACE) ./... >/dev/null
	$(GO) list -export -deps -test $(WHOLEIN) >/dev/null
	$(GO) list -export -deps ./cmd/roster >/dev/null

cover: ## statement coverage of the protocol, its engines and the schemas, by all tests that drive them
	@mkdir -p bin
	$(GO) test -vet=off -timeout 30m -coverpkg=./scim,./scim/filter,./scim/patch,./schemas -coverprofile=bin/cover.out ./scim/... ./schemas ./internal/... ./cmd/roster >/dev/null
	@awk 'NR > 1 { all[$$1] = $$2; if ($$3) hit[$$1] } \
		END { for (b in all) { p = b; sub(/\/[^\/]*$$/, "", p); of[p] += all[b]; if (b in hit) done[p] += all[b] } \
			for (p in of) printf "%-50s %5.1f %%\n", p, 100 * done[p] / of[p] }' bin/cover.out | sort

lint: ## golangci-lint at the pinned version
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI) run ./...

# scim2-tester and what it needs, at exact versions.
SCIM2 := bin/scim2
$(SCIM2)/bin/scim2:
	python3 -m venv $(SCIM2)
	$(SCIM2)/bin/pip install -q scim2-cli==0.6.0 scim2-tester==0.5.2 scim2-client==0.13.2 scim2-models==0.12.3

suite: $(SCIM2)/bin/scim2 ## install a public compliance suite (Python, into bin/scim2)

# scim-patch and scimmy at exact versions, with the filters and the express that
# they are made with: the paging of scimmy-routers 1.3.2 does nothing in express 5.
NPM := bin/npm/node_modules
$(NPM)/scimmy-routers:
	npm install --prefix bin/npm --no-audit --no-fund --ignore-scripts --save-exact scim-patch@0.8.3 scim2-parse-filter@0.2.10 \
		scimmy@1.3.5 scimmy-routers@1.3.2 express@4.22.3

opinion: $(NPM)/scimmy-routers ## install another implementation of PATCH and another server to compare with (JavaScript, into bin/npm)

conformance: suite opinion ## run the public compliance suite against the server on both stores, and compare it with scim-patch and scimmy
	ROSTER_TEST_NPM=$(CURDIR)/$(NPM) $(GO) test -count=1 -v -run 'TestScimPatch|TestScimmy' ./scim/patch ./scim
	ROSTER_TEST_SCIM2=$(CURDIR)/$(SCIM2)/bin/scim2 $(GO) test -count=1 -v -run TestComplianceSuite ./cmd/roster

fuzz: ## every fuzz target for FUZZTIME (30s) each
	@for pkg in $$($(GO) list ./...); do \
		list=$$($(GO) test -list '^Fuzz' $$pkg) || { echo "$$list"; exit 1; }; \
		for target in $$(echo "$$list" | grep '^Fuzz'); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

bench: build ## measure at 100,000 users against the built-in baselines
	$(BIN) bench --users 100000 $(ARGS)

kill: ## kill -9 the server 200 times in the middle of a load and look for losses
	ROSTER_TEST_KILLS=200 $(GO) test -count=1 -timeout 60m -run TestKill -v ./cmd/roster

soak: ## keep the server busy for 20 minutes: nothing that it holds may grow; needs 8 GB in TMPDIR
	ROSTER_TEST_SOAK=600 $(GO) test -count=1 -timeout 60m -run TestSoak -v ./cmd/roster

nodes: ## three servers on one MongoDB database under a load 20 times that of the tests
	ROSTER_TEST_NODES=480 $(GO) test $(RACE) -count=1 -timeout 60m -run 'TestNodes|TestElection|TestOutages|TestUnknownOutcome' -v ./cmd/roster

mutants: ## flip each condition of the decision about who may do what, and see a test fail
	ROSTER_TEST_MUTANTS=1 $(GO) test -count=1 -timeout 30m -run TestMutants -v ./auth

sequences: ## 10,000 random sequences of a client that tries to become an administrator, 1,000 races for the last one, 100 thieves, 1,000 tampers
	ROSTER_TEST_SEQUENCES=10000 ROSTER_TEST_ROUNDS=1000 $(GO) test -count=1 -timeout 60m -run 'TestSequences|TestLastAdministrator' -v ./scim
	ROSTER_TEST_STEPS=1 $(GO) test -count=1 -timeout 30m -run TestNoStepWithoutProof -v ./auth
	ROSTER_TEST_TAMPERS=1 $(GO) test -count=1 -timeout 30m -run TestTampering -v ./internal/audit

model: ## 10,000 random sequences of 50 requests on each store, against a model of users, groups, roles and memberships
	ROSTER_TEST_MODEL=10000 $(GO) test -count=1 -timeout 120m -run 'TestModel$$' -v ./scim

imports: ## what an import of 100,000 rows takes, beside creating as many users through Bulk
	ROSTER_TEST_IMPORT=100000 $(GO) test -count=1 -timeout 30m -run TestImportTime -v ./cmd/roster

backups: ## what backup, restore and verify of 1,000,000 users take; needs 6 GB in TMPDIR
	ROSTER_TEST_BACKUP=1000000 $(GO) test -count=1 -timeout 90m -run TestBackupTime -v ./cmd/roster

overload: ## four times as many requests as the server can do: what is served, refused, and how soon
	ROSTER_TEST_OVERLOAD=20 $(GO) test -count=1 -timeout 10m -run 'TestOverload$$' -v ./cmd/roster

timing: ## does the time that a refused sign-in takes tell why? 2,000 of each kind; the machine should have nothing else to do
	ROSTER_TEST_TIMING=2000 $(GO) test -count=1 -timeout 120m -run TestTimingOfRefusals -v ./auth

# Tools of others, at exact versions; none is a part of what they make.
TOOLS := bin/tools
$(TOOLS)/nfpm-$(NFPM): TOOL = github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM)
$(TOOLS)/cyclonedx-gomod-$(GOMOD): TOOL = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(GOMOD)
$(TOOLS)/promtool-$(PROMTOOL): TOOL = github.com/prometheus/prometheus/cmd/promtool@$(PROMTOOL)
$(TOOLS)/%:
	@mkdir -p $(TOOLS)
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install -trimpath $(TOOL)
	@mv $(TOOLS)/$(notdir $(firstword $(subst @, ,$(TOOL)))) $@

# v1.2.3 is 1.2.3, v1.2.3-rc.1 comes before it, and commits after a tag come after it.
PACKAGE_VERSION = $(shell echo '$(VERSION)' | sed -E 's/^v//; s/-dirty$$/+dirty/; s/-([0-9]+)-g([0-9a-f]+)/+\1.g\2/; s/-/~/; s/^[0-9a-f]{7,}/0+g&/')
package-version:
	@echo $(PACKAGE_VERSION)

SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
MAINTAINER ?= Roster <root@localhost>
ARCHES     ?= amd64 arm64
PACKAGES   := bin/packages
packages: $(TOOLS)/nfpm-$(NFPM) $(TOOLS)/cyclonedx-gomod-$(GOMOD) ## deb and rpm for ARCHES (amd64 arm64), each with its SBOM and licences, into bin/packages
	@rm -rf $(PACKAGES)
	@set -eu; export SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' MAINTAINER='$(MAINTAINER)' PACKAGE_VERSION='$(PACKAGE_VERSION)'; \
	for ARCH in $(ARCHES); do \
		export ARCH STAGE=$(PACKAGES)/$$ARCH; mkdir -p $$STAGE; \
		GOOS=linux GOARCH=$$ARCH $(BUILD) -o $$STAGE/roster ./cmd/roster; \
		deploy/packages/third-party $$STAGE/roster >$$STAGE/third-party.txt; \
		GOPROXY=off $(TOOLS)/cyclonedx-gomod-$(GOMOD) bin -json -std -licenses -noserial -notimestamp \
			-version '$(VERSION)' -output $$STAGE/sbom.cdx.json $$STAGE/roster; \
		for kind in deb rpm; do \
			$(TOOLS)/nfpm-$(NFPM) package --config deploy/packages/nfpm.yaml --packager $$kind --target $(PACKAGES)/; \
		done; \
	done

reproducible: ## build the packages of this commit twice, in other folders, with other caches, compare and look into them
	@set -eu; dir=$$(mktemp -d); trap 'rm -rf $$dir' EXIT; \
	git clone -q . $$dir/1/roster; git clone -q $$dir/1/roster $$dir/a/longer/2/roster; \
	for n in 1 a/longer/2; do \
		(cd $$dir/$$n/roster && GOCACHE=$$dir/$$n/cache $(MAKE) -s packages); \
	done; \
	diff -r $$dir/1/roster/$(PACKAGES) $$dir/a/longer/2/roster/$(PACKAGES); \
	ROSTER_TEST_PACKAGES=$$dir/1/roster/$(PACKAGES) $(GO) test -count=1 -v -run 'TestPackages$$' ./cmd/roster; \
	cd $$dir/1/roster && find $(PACKAGES) -type f -exec sha256sum {} +

promtool: $(TOOLS)/promtool-$(PROMTOOL) ## install promtool (into bin)
	@ln -sf $(CURDIR)/$< bin/promtool

alerts: promtool ## play out the alert rules, with promtool
	ROSTER_TEST_PROMTOOL=$(CURDIR)/bin/promtool $(GO) test -count=1 -v -run TestAlerts ./cmd/roster

clean: ## remove what was built
	rm -rf bin
