# Builds and runs the self test of a network; `make` runs it on this machine.
#
#   make            build/host/selftest, and run it
#   make sanitise   the same under the address and undefined-behaviour sanitisers
#   make rv32       on RV32IMAC, under QEMU (gcc-riscv64-unknown-elf, qemu-system-misc)
#   make cortex-m   on Cortex-M4 without its floating-point unit, under QEMU
#                   (gcc-arm-none-eabi, qemu-system-arm)
#   make size       code and data, bytes, of what was built
#   make clean

CC ?= cc
RV32 = riscv64-unknown-elf-
CORTEX_M = arm-none-eabi-
OPTIMISE = -O2
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Werror
# Products and sums of floats are rounded apart.
CFLAGS = -std=c99 $(OPTIMISE) $(WARNINGS) -ffp-contract=off
BARE = -ffreestanding -nostdlib -ffunction-sections -fdata-sections -fno-builtin -Wl,--gc-sections
RV32_FLAGS = -march=rv32imac -mabi=ilp32 -mcmodel=medany -Wl,--no-relax
CORTEX_M_FLAGS = -mcpu=cortex-m4 -mthumb -mfloat-abi=soft
RUN_RV32 = qemu-system-riscv32 -machine virt -bios none -display none -serial stdio -monitor none -icount shift=0
RUN_CORTEX_M = qemu-system-arm -machine mps2-an386 -display none -serial none -monitor none \
  -chardev stdio,id=out -semihosting-config enable=on,target=native,chardev=out -icount shift=0

network = network.c halut_layers.c
sources = $(network) vector.c selftest.c
headers = $(wildcard *.h)

.PHONY: test sanitise rv32 cortex-m size clean
.DELETE_ON_ERROR:

test: build/host/selftest
	./$<

sanitise: build/sanitised/selftest
	./$<

rv32: build/rv32/selftest
	$(RUN_RV32) -kernel $<

cortex-m: build/cortex_m/selftest
	$(RUN_CORTEX_M) -kernel $<

build/host/selftest: $(sources) port_host.c $(headers)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $(filter %.c,$^)

build/sanitised/selftest: $(sources) port_host.c $(headers)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -g -fsanitize=address,undefined -fno-sanitize-recover=all -o $@ $(filter %.c,$^)

build/rv32/selftest: $(sources) port_rv32.c rv32.ld $(headers)
	@mkdir -p $(@D)
	$(RV32)gcc $(CFLAGS) $(RV32_FLAGS) $(BARE) -T rv32.ld -o $@ $(filter %.c,$^) -lgcc

build/cortex_m/selftest: $(sources) port_cortex_m.c cortex_m.ld $(headers)
	@mkdir -p $(@D)
	$(CORTEX_M)gcc $(CFLAGS) $(CORTEX_M_FLAGS) $(BARE) -T cortex_m.ld -o $@ $(filter %.c,$^) -lgcc

size:
	@for one in build/*/selftest; do \
	  case $$one in \
	    *rv32*) $(RV32)size $$one;; \
	    *cortex_m*) $(CORTEX_M)size $$one;; \
	    *) size $$one;; \
	  esac; \
	done

clean:
	rm -rf build
