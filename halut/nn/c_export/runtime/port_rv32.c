/* The self test on RV32 without an operating system: QEMU's machine "virt".
 *
 * Instructions are counted by minstret, exactly with -icount shift=0. */
#include "port.h"
#include "port_memory.h"

#define UART (*(volatile uint8_t *)0x10000000U)
#define FINISHER (*(volatile uint32_t *)0x00100000U)

int main(void);
void start(void);
void _start(void);

void port_print(const char *text)
{
    while (*text != '\0')
        UART = (uint8_t)*text++;
}

uint64_t port_instructions(void)
{
    uint32_t low, high, again;
    do {
        __asm__ volatile(".option push\n.option arch, +zicsr\n"
                         "csrr %0, minstreth\ncsrr %1, minstret\ncsrr %2, minstreth\n.option pop"
                         : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

void start(void)
{
    prepare_memory();
    const uint32_t status = (uint32_t)main();
    FINISHER = status == 0U ? 0x5555U : status << 16 | 0x3333U;
    for (;;) {
    }
}

__attribute__((naked, section(".start"))) void _start(void)
{
    __asm__ volatile("la sp, stack_top\n"
                     "j start");
}
