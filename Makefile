# Every target does its own set-up: python3 (>= 3.10) with venv, make, g++ and perl are enough.
# The logic is in Python (python -m halut | rtl_gen | sim | flow); this file only wires it up.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

ROOT     := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
PYTHON   ?= python3
VENV     ?= $(ROOT)/.venv
EXTRAS   ?= sim,demo,flow,dev
TORCH    ?= torch
CONSTRAINTS ?=
JOBS     ?= auto
CONFIG   ?= configs/small.yaml
PLATFORM ?= generic
CLOCK_NS ?= 6
TARGET_NS ?=
SYNTH_ONLY ?=
BASELINE ?=
RUNS     ?=
RECIPE   ?= configs/networks/digits_resnet9_int8.yaml
IMAGES   ?= 100
SPACE    ?= configs/spaces/digits.yaml
OUT      ?=
ARGS     ?=

py := $(VENV)/bin/python
network_out := $(or $(OUT),build/networks/$(basename $(notdir $(RECIPE))))
# One stamp per set of extras: it is redone only when pyproject.toml changes.
comma := ,
stamp := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
# The tests of networks need torch, too; TORCH= leaves it out, and they are skipped.
torch_stamp := $(stamp)$(if $(TORCH),-$(TORCH))

$(VENV)/.installed-%: $(ROOT)/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: python3 must be 3.10 or newer (set PYTHON=...)" >&2; exit 2; }
	@$(py) -m pip --version >/dev/null 2>&1 || { \
	  echo "creating $(VENV)"; \
	  $(PYTHON) -m venv $$(test -f $(VENV)/pyvenv.cfg && echo --clear) $(VENV) || { \
	  echo "error: no venv module (Debian/Ubuntu: apt install python3-venv)" >&2; exit 2; }; }
	@echo "installing halut-stack[$(subst -,$(comma),$*)]"
	@$(py) -m pip install --quiet --disable-pip-version-check \
	  $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '$(ROOT)[$(subst -,$(comma),$*)]'
	@touch $@

.PHONY: help venv demo network test test-slow lint doctor rtl synth pnr orfs report bench tables sweep pareto bench-software clean distclean

help: ## this list
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo "Variables (defaults):"
	@echo "  CONFIG=$(CONFIG)  PLATFORM=$(PLATFORM)  CLOCK_NS=$(CLOCK_NS)  OUT=$(OUT)"
	@echo "  TARGET_NS=  (synth: made for this period)   BASELINE=  (synth, pnr, report: metrics.json to compare)"
	@echo "  RUNS=  (report: folders to compare, in place of CONFIG's run)"
	@echo "  SYNTH_ONLY=  (synth: 1 stops before OpenROAD)"
	@echo "  RECIPE=$(RECIPE)  IMAGES=$(IMAGES)"
	@echo "  SPACE=$(SPACE)"
	@echo "  ARGS=  (added to the command)   JOBS=$(JOBS) (test processes)"
	@echo "  TORCH=$(TORCH)  (empty: tests without it; those of networks are skipped)"
	@echo "  PYTHON=$(PYTHON)  VENV=$(VENV)  EXTRAS=$(EXTRAS)"
	@echo "  CONSTRAINTS=  (constraints.txt: the very versions of the last green tests)"

venv: $(stamp) ## make .venv and install everything but torch

demo: $(stamp) ## images -> learn -> Verilog -> simulate -> check; pictures in build/demo
	@cd $(ROOT) && $(py) -m sim.demo $(if $(OUT),-o $(OUT)) $(ARGS)

test: $(torch_stamp) ## all tests but the slow ones
	@cd $(ROOT) && $(py) -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-slow: $(torch_stamp) ## the slow tests only
	@cd $(ROOT) && $(py) -m pytest -n $(JOBS) -m slow $(ARGS)

lint: $(torch_stamp) ## ruff (rules and format) and mypy
	@cd $(ROOT) && $(py) -m ruff check . && $(py) -m ruff format --check . && $(py) -m mypy

doctor: ## tools: version found or missing, how to get them, what works without
	@cd $(ROOT) && $$(test -x $(py) && echo $(py) || echo $(PYTHON)) -m flow.doctor

rtl: $(stamp) ## Verilog and manifest of CONFIG (to OUT)
	@cd $(ROOT) && $(py) -m rtl_gen --config $(CONFIG) $(if $(OUT),-o $(OUT)) $(ARGS)

synth: $(stamp) ## area, timing and energy of CONFIG on PLATFORM at CLOCK_NS
	@cd $(ROOT) && $(py) -m flow synth --config $(CONFIG) --platform $(PLATFORM) \
	  --clock-ns $(CLOCK_NS) $(if $(TARGET_NS),--target-ns $(TARGET_NS)) \
	  $(if $(BASELINE),--baseline $(BASELINE)) $(if $(SYNTH_ONLY),--synth-only) \
	  $(if $(OUT),-o $(OUT)) $(ARGS)

pnr: $(stamp) ## CONFIG placed and routed with OpenROAD (on PATH or OPENROAD_EXE)
	@cd $(ROOT) && $(py) -m flow pnr --config $(CONFIG) --platform $(PLATFORM) \
	  --clock-ns $(CLOCK_NS) $(if $(TARGET_NS),--target-ns $(TARGET_NS)) \
	  $(if $(BASELINE),--baseline $(BASELINE)) $(if $(OUT),-o $(OUT)) $(ARGS)

report: $(stamp) ## CONFIG's run on PLATFORM, or RUNS compared, as one HTML page (to OUT)
	@cd $(ROOT) && $(py) -m flow report $(or $(RUNS),--config $(CONFIG) --platform $(PLATFORM) \
	  --clock-ns $(CLOCK_NS)) $(if $(BASELINE),--baseline $(BASELINE)) $(if $(OUT),-o $(OUT)) $(ARGS)

# These need a library, so their default platform is not that of synth.
orfs: $(stamp) ## CONFIG as a design of OpenROAD-flow-scripts (PLATFORM: nangate45)
	@cd $(ROOT) && $(py) -m flow orfs --config $(CONFIG) $(if $(filter file,$(origin PLATFORM)),, \
	  --platform $(PLATFORM)) --clock-ns $(CLOCK_NS) $(if $(OUT),-o $(OUT)) $(ARGS)

bench: $(stamp) ## our engines and the direct ones in one table (PLATFORM: nangate45)
	@cd $(ROOT) && $(py) -m flow bench $(if $(filter file,$(origin PLATFORM)),,--platform \
	  $(PLATFORM)) --clock-ns $(CLOCK_NS) $(ARGS)

tables: $(stamp) ## the paper's tables rebuilt on NanGate45 and ASAP7 (to OUT, build/TABLES.md)
	@cd $(ROOT) && $(py) -m flow tables $(if $(OUT),-o $(OUT)) $(ARGS)

# Its results are below build/sweep, in a folder with the name of the space.
sweep: $(stamp) ## learn, estimate, prune and synthesise every point of SPACE (to OUT)
	@cd $(ROOT) && $(py) -m flow sweep $(SPACE) $(if $(OUT),-o $(OUT)) $(ARGS)

pareto: $(stamp) ## front of SPACE's finished points: table and interactive page (to OUT)
	@cd $(ROOT) && $(py) -m flow pareto $(SPACE) $(if $(OUT),-o $(OUT)) $(ARGS)

network: $(torch_stamp) ## train RECIPE's network, then run it on simulated hardware (IMAGES)
	@cd $(ROOT) && $(py) -m halut train $(RECIPE) -o $(network_out) $(ARGS)
	@cd $(ROOT) && $(py) -m sim --network $(network_out)/network.pt \
	  --config configs/digits_network.yaml --images $(IMAGES)

bench-software: $(stamp) ## measured accuracy and speed of the NumPy part, and of simulation
	@cd $(ROOT) && $(py) -m halut bench $(ARGS)
	@cd $(ROOT) && $(py) -m sim.bench

clean: ## remove build/
	rm -rf $(ROOT)/build

distclean: clean ## remove build/ and .venv
	@test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV)
