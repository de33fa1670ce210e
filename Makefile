# Every target does its own set-up: python3 (>= 3.10) with venv, make, g++ and perl are enough.
# The logic is in Python (python -m halut | rtl_gen | sim | flow); this file only wires it up.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# make splits names at spaces, so everything below is relative to the folder of this file, whatever
# that folder is called. From another folder (make -f) it starts itself again in its own.
ifneq ($(strip $(MAKEFILE_LIST)),Makefile)
export HALUT_MAKEFILE := $(MAKEFILE_LIST)
.PHONY: $(or $(MAKECMDGOALS),help)
$(or $(MAKECMDGOALS),help):
	@unset MAKEFILES; cd "$$(dirname "$${HALUT_MAKEFILE# }")" && \
	  $(MAKE) --no-print-directory $@
else

PYTHON   ?= python3
VENV     ?= .venv
EXTRAS   ?= sim,demo,flow,dev
TORCH    ?= torch
CONSTRAINTS ?=
JOBS     ?= auto
CONFIG   ?= configs/small.yaml
PLATFORM ?= generic
BOARD    ?=
DEVICE   ?=
CLOCK_NS ?= 6
TARGET_NS ?=
SYNTH_ONLY ?=
BASELINE ?=
RUNS     ?=
RECIPE   ?= configs/networks/digits_resnet9_int8.yaml
IMAGES   ?= 100
SPACE    ?= configs/spaces/digits.yaml
LAYOUTS  ?= configs/layouts/published.yaml
OUT      ?=
ARGS     ?=

# Commands have defaults of their own: they get what was set.
platform := $(if $(filter file,$(origin PLATFORM)),,set)
clock := $(if $(filter file,$(origin CLOCK_NS)),,set)
images := $(if $(filter file,$(origin IMAGES)),,set)
# What users give is text: a $ in it means nothing to make, and q makes it one word for the shell.
$(foreach name,CONFIG BOARD DEVICE PLATFORM CLOCK_NS TARGET_NS BASELINE RECIPE IMAGES SPACE OUT CONSTRAINTS \
  PYTHON VENV,$(eval override $(name) := $$(value $(name))))
q = '$(subst ','\'',$(1))'
conditions = $(if $(platform),--platform $(call q,$(PLATFORM))) $(if $(clock),--clock-ns $(call q,$(CLOCK_NS)))
ifneq ($(words $(VENV))$(shell printf %s $(call q,$(VENV)) | LC_ALL=C tr -d 'A-Za-z0-9_./+,@=\200-\377-'),1)
$(error VENV must be a path of letters, digits and ./+,@_=-, not $(call q,$(VENV)))
endif

py := $(VENV)/bin/python
network_out = $(if $(OUT),$(call q,$(OUT)),build/networks/"$$(basename $(call q,$(RECIPE)) .yaml)")
# One stamp per set of extras: it is redone only when pyproject.toml changes.
comma := ,
stamp := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
# The tests of networks need torch, too; TORCH= leaves it out, and they are skipped.
torch_stamp := $(stamp)$(if $(TORCH),-$(TORCH))
docs_stamp := $(VENV)/.installed-docs
fpga_stamp := $(VENV)/.installed-fpga

$(VENV)/.installed-%: pyproject.toml
	@$(call q,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: python3 must be 3.10 or newer (set PYTHON=...)" >&2; exit 2; }
	@case "$$PWD" in *:*) echo "error: the path of a clone must have no colon ($$PWD)" >&2; \
	  exit 2;; esac
	@$(py) -m pip --version >/dev/null 2>&1 || { \
	  echo "creating $(VENV)"; \
	  $(call q,$(PYTHON)) -m venv $(VENV) || { echo "error: $(VENV) must be writable, and the venv" \
	  "module installed (Debian/Ubuntu: apt install python3-venv)" >&2; exit 2; }; }
	@echo "installing halut-stack[$(subst -,$(comma),$*)]"
	@$(py) -m pip install --quiet --disable-pip-version-check \
	  $(if $(CONSTRAINTS),-c $(call q,$(CONSTRAINTS))) -e '.[$(subst -,$(comma),$*)]'
	@touch $@

.PHONY: help venv demo network soc soc-bitstream docs test test-slow mutate lint doctor rtl synth pnr layouts formal fpga fpga-tables orfs report bench tables sweep pareto bench-software clean distclean

help: ## this list
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo "Variables (defaults):"
	@echo "  BOARD=$(BOARD)  DEVICE=$(DEVICE)  (of fpga, BOARD of soc-bitstream; python -m flow fpga --help lists them)"
	@echo "  CONFIG=$(CONFIG)  PLATFORM=$(PLATFORM)  CLOCK_NS=$(CLOCK_NS)  OUT=$(OUT)"
	@echo "  TARGET_NS=  (synth: made for this period)   BASELINE=  (synth, pnr, report: metrics.json to compare)"
	@echo "  RUNS=  (report: folders to compare, in place of CONFIG's run)"
	@echo "  SYNTH_ONLY=  (synth: 1 stops before OpenROAD)"
	@echo "  RECIPE=$(RECIPE)  IMAGES=$(IMAGES)"
	@echo "  SPACE=$(SPACE)  LAYOUTS=$(LAYOUTS)"
	@echo "  ARGS=  (added to the command)   JOBS=$(JOBS) (test processes)"
	@echo "  TORCH=$(TORCH)  (empty: tests without it; those of networks are skipped)"
	@echo "  PYTHON=$(PYTHON)  VENV=$(VENV)  EXTRAS=$(EXTRAS)"
	@echo "  CONSTRAINTS=  (constraints.txt: the very versions of the last green tests)"

venv: $(stamp) ## make .venv and install everything but torch

demo: $(stamp) ## images -> learn -> Verilog -> simulate -> check; pictures in build/demo
	@$(py) -m sim.demo $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

test: $(torch_stamp) ## all tests but the slow ones
	@$(py) -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(ARGS)

test-slow: $(torch_stamp) ## the slow tests only
	@$(py) -m pytest -n $(JOBS) --dist worksteal -m slow $(ARGS)

# Results are kept in build/mutants, one file per mutant: an interrupted run goes on.
mutate: $(stamp) ## faults put into the Verilog one by one: how many the benches find
	@$(py) -m flow mutate $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

lint: $(torch_stamp) ## ruff (rules and format) and mypy
	@$(py) -m ruff check . && $(py) -m ruff format --check . && $(py) -m mypy

doctor: ## tools: version found or missing, how to get them, what works without
	@$$(test -x $(py) && echo $(py) || echo $(call q,$(PYTHON))) -m flow.doctor

rtl: $(stamp) ## Verilog and manifest of CONFIG (to OUT)
	@$(py) -m rtl_gen --config $(call q,$(CONFIG)) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

synth: $(stamp) ## area, timing and energy of CONFIG on PLATFORM at CLOCK_NS
	@$(py) -m flow synth --config $(call q,$(CONFIG)) $(conditions) \
	  $(if $(TARGET_NS),--target-ns $(call q,$(TARGET_NS))) \
	  $(if $(BASELINE),--baseline $(call q,$(BASELINE))) $(if $(SYNTH_ONLY),--synth-only) \
	  $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

pnr: $(stamp) ## CONFIG placed and routed with OpenROAD (on PATH or OPENROAD_EXE)
	@$(py) -m flow pnr --config $(call q,$(CONFIG)) $(conditions) \
	  $(if $(TARGET_NS),--target-ns $(call q,$(TARGET_NS))) \
	  $(if $(BASELINE),--baseline $(call q,$(BASELINE))) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

layouts: $(stamp) ## what LAYOUTS lists, placed and routed; one table with pictures (hours; to OUT, build/LAYOUTS.md)
	@$(py) -m flow layouts --list $(call q,$(LAYOUTS)) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

report: $(stamp) ## CONFIG's run on PLATFORM, or RUNS compared, as one HTML page (to OUT)
	@$(py) -m flow report $(or $(RUNS),--config $(call q,$(CONFIG)) $(conditions)) $(if $(BASELINE),--baseline $(call q,$(BASELINE))) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

fpga: $(fpga_stamp) ## CONFIG on an FPGA: DEVICE's resources and period, or BOARD's bitstream
	@$(py) -m flow fpga --config $(call q,$(CONFIG)) \
	  $(if $(BOARD),--board $(call q,$(BOARD)),$(if $(DEVICE),--device $(call q,$(DEVICE)))) \
	  $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

# The designs of the table in docs/fpga.md.
fpga_tables := small stella_nera options/stella_nera_fpga options/dense_p4_m2_fpga \
  options/dense_p4_q4_m16_fpga options/dense_fpga
fpga-tables: $(fpga_stamp) ## accelerators and INT8 engines on DEVICE, as a table (hours)
	@$(py) -m flow fpga $(foreach c,$(fpga_tables),--config configs/$(c).yaml) \
	  --engine int8_multipliers --engine int8_luts $(if $(DEVICE),--device $(call q,$(DEVICE))) \
	  $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

formal: $(stamp) ## proofs of what the units promise, each with a broken twin
	@$(py) -m flow formal $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

# These need a library, so their default platform is not that of synth.
orfs: $(stamp) ## CONFIG as a design of OpenROAD-flow-scripts (PLATFORM: nangate45)
	@$(py) -m flow orfs --config $(call q,$(CONFIG)) $(conditions) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

bench: $(stamp) ## our engines and the direct ones in one table (PLATFORM: nangate45)
	@$(py) -m flow bench $(conditions) $(ARGS)

tables: $(stamp) ## the paper's tables rebuilt on NanGate45 and ASAP7 (to OUT, build/TABLES.md)
	@$(py) -m flow tables $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

# Its results are below build/sweep, in a folder with the name of the space.
sweep: $(stamp) ## learn, estimate, prune and synthesise every point of SPACE (to OUT)
	@$(py) -m flow sweep $(call q,$(SPACE)) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

pareto: $(stamp) ## front of SPACE's finished points: table and interactive page (to OUT)
	@$(py) -m flow pareto $(call q,$(SPACE)) $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

network: $(torch_stamp) ## train RECIPE's network, then run it on simulated hardware (IMAGES)
	@$(py) -m halut train $(call q,$(RECIPE)) -o $(network_out) $(ARGS)
	@$(py) -m sim --network $(network_out)/network.pt \
	  --config configs/digits_network.yaml --images $(call q,$(IMAGES))

# LiteX has an environment of its own. A network that was trained before is used again.
soc_network = build/networks/"$$(basename $(call q,$(RECIPE)) .yaml)"
soc: $(torch_stamp) ## a processor runs RECIPE's network in simulation, with custom instructions and an accelerator too
	@$(py) -m soc --check
	@$(MAKE) --no-print-directory VENV=build/soc/venv EXTRAS=soc venv
	@test -f $(soc_network)/network.pt || $(py) -m halut train $(call q,$(RECIPE)) -o $(soc_network)
	@$(py) -m soc --network $(soc_network)/network.pt --images $(call q,$(IMAGES)) \
	  $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

soc-bitstream: $(torch_stamp) $(fpga_stamp) ## that processor with custom instructions as a bitstream for BOARD (ulx3s)
	@$(py) -m soc --check
	@$(MAKE) --no-print-directory VENV=build/soc/venv EXTRAS=soc venv
	@test -f $(soc_network)/network.pt || $(py) -m halut train $(call q,$(RECIPE)) -o $(soc_network)
	@test -f $(soc_network)/network_4.pt || $(py) -m halut formats $(soc_network)/network.pt --lut-bits 4 \
	  --save $(soc_network)/network_4.pt
	@$(py) -m soc --board $(call q,$(or $(BOARD),ulx3s)) --network $(soc_network)/network_4.pt --lut-bits 4 \
	  $(if $(images),--images $(call q,$(IMAGES))) \
	  $(if $(OUT),-o $(call q,$(OUT))) $(ARGS)

docs: $(docs_stamp) ## the documentation as a site that needs no network (to OUT, build/docs)
	@$(py) docs/site/build.py $(if $(OUT),-o $(call q,$(OUT)))

bench-software: $(stamp) ## measured accuracy and speed of the software, and of simulation
	@$(py) -m halut bench $(ARGS)
	@$(py) -m sim.bench

clean: ## remove build/
	rm -rf build

distclean: clean ## remove build/ and .venv
	@# Only what this file made.
	@test ! -f $(VENV)/pyvenv.cfg || ! ls $(VENV)/.installed-* >/dev/null 2>&1 || rm -rf $(VENV)

endif
