# The index: one line a target. `make help` shows them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
HOSTS ?= 3
CONTROLLERS ?= 1
SEEDS ?= 200
STORE ?= embedded
TARGET ?= spec
SECONDS ?= 60
RUN_TESTS = if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace; else cargo test --workspace; fi
# Only what a local fleet is made of; the benchmark is built when it is wanted.
FLEET_PROGRAMS = --bin bgctl --bin bgctl-controller --bin bgctl-agent --bin fleet
RELEASED = cargo run --release --quiet --bin
FUZZ = cargo run --quiet -p bgctl-fuzz-cases --bin corpus --
# cargo-fuzz asks for options of a nightly compiler; RUSTC_BOOTSTRAP has the stable one take them. Our code has no
# `unsafe`, so that no sanitizer is needed.
CARGO_FUZZ = { cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz; } && cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz
.DEFAULT_GOAL := help
.PHONY: help build test model-full sim demo fleet fleet-down bench chaos fuzz fuzz-keep lint install-packages

help:             ; @sed -n 's/^#: //p' $(MAKEFILE_LIST)

#: make build                        builds everything, for development
build:            ; cargo build --workspace
#: make test                         installs what is missing, builds, runs all tests, on real Docker, nginx and etcd
test:             ; deploy/install-packages etcd hosts systemd && cargo build --workspace && $(RUN_TESTS)
#: make model-full                   every order of events of larger fleets: minutes, and some gigabytes
model-full:       ; cargo test --package bgctl-model --test full -- --ignored --nocapture --test-threads 1
#: make sim SEEDS=20000              the real loops in a simulated world, many seeds; or SEED=8421: one, told as it happened
sim:              ; cargo run --quiet --profile sim -p bgctl-sim -- $(if $(SEED),replay $(SEED),sweep --seeds $(SEEDS))
#: make demo                         a deployment and its rollback under load, on a fleet of its own, in numbers
demo:             ; deploy/install-packages && cargo build --release $(FLEET_PROGRAMS) --bin demo && $(RELEASED) demo
#: make fleet HOSTS=3 STORE=embedded a local fleet that stays; `. .fleet/env` makes a shell its operator's; or STORE=etcd,
#:                                  and then CONTROLLERS=3 on three members of it
fleet:            ; deploy/install-packages $(filter etcd,$(STORE)) && cargo build --release $(FLEET_PROGRAMS) && $(RELEASED) fleet -- up --hosts $(HOSTS) --store $(STORE) --controllers $(CONTROLLERS)
#: make fleet-down                   removes the local fleet
fleet-down:       ; $(RELEASED) fleet -- down
#: make bench                        measures, and compares with what people would use instead
bench:            ; deploy/install-packages haproxy && cargo build --release $(FLEET_PROGRAMS) --bin bench && $(RELEASED) bench
#: make chaos ONLY=substring         every crash, cut and loss of power on five hosts in namespaces, in one table
chaos:            ; deploy/install-packages etcd hosts && cargo build --workspace --bins && cargo run --quiet --bin chaos -- $(if $(ONLY),--only "$(ONLY)")
#: make fuzz TARGET=spec SECONDS=60  feeds a reader what no test thought of; the readers are listed in tests/fuzz/src/lib.rs
fuzz:             ; $(FUZZ) unpack $(TARGET) fuzz/corpus/$(TARGET) && $(CARGO_FUZZ) run --sanitizer none $(TARGET) -- -max_total_time=$(SECONDS)
#: make fuzz-keep TARGET=spec        puts the least of what was found that reaches as far into the corpus of `make test`
fuzz-keep:        ; ($(CARGO_FUZZ) cmin --sanitizer none $(TARGET)) && $(FUZZ) pack $(TARGET) fuzz/corpus/$(TARGET)
#: make lint                         format and clippy, warnings are errors
lint:             ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
#: make install-packages             what all of the above needs from the system's packages
install-packages: ; deploy/install-packages etcd haproxy hosts systemd
