/* Start of the processor, and what it says to the testbench. */
#include "system.h"
#include "firmware.h"
#include "port_memory.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

void start(void);
void _start(void);

void print(const char *text)
{
    while (*text != '\0') {
#ifdef CONSOLE_BUSY /* a serial line */
        while (REGISTER(CONSOLE_BUSY) != 0) {
        }
#endif
        REGISTER(CONSOLE_PRINT) = (uint8_t)*text++;
    }
}

void print_number(uint32_t number)
{
    char text[11], *digit = text + 10;
    *digit = '\0';
    do
        *--digit = (char)('0' + (int)(number % 10U));
    while ((number /= 10U) != 0U);
    print(digit);
}

void mark(uint32_t number)
{
    REGISTER(CONSOLE_MARK) = number;
}

void start(void)
{
    prepare_memory();
    REGISTER(CONSOLE_EXIT) = (uint32_t)main();
    for (;;) {
    }
}

/* A trap ends the run; VexRiscv's custom instructions are on from bit 31 of its register 0xbc0. */
__attribute__((naked, section(".start"))) void _start(void)
{
    __asm__ volatile(".option push\n.option arch, +zicsr\n"
                     "la sp, stack_top\n"
                     "la t0, trapped\n"
                     "csrw mtvec, t0\n"
                     "li t0, 0x80000000\n"
                     "csrw 0xbc0, t0\n"
                     ".option pop\n"
                     "j start");
}

void trapped(void);

__attribute__((aligned(4))) void trapped(void)
{
    print("error: a trap, at 0x");
    uint32_t place;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, mepc\n.option pop" : "=r"(place));
    for (int shift = 28; shift >= 0; shift -= 4) {
        const char digit[2] = {"0123456789abcdef"[place >> shift & 15U], '\0'};
        print(digit);
    }
    print("\n");
    REGISTER(CONSOLE_EXIT) = 1;
    for (;;) {
    }
}
