/* The self test on Cortex-M without an operating system: prints and ends by semihosting.
 *
 * Instructions are counted by the SysTick timer of QEMU's "mps2-an386" with -icount shift=0, where
 * an instruction takes 1 ns and the clock has 25 MHz: in steps of 40. */
#include "port.h"
#include "port_memory.h"

#define SYSTICK ((volatile uint32_t *)0xe000e010U) /* control, reload, current */
#define RELOAD 0xffffffU
#define NS_PER_TICK 40U

extern uint32_t stack_top[];
static volatile uint32_t n_wraps;

int main(void);
void _start(void);
void systick_wrapped(void);

static int32_t semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

void port_print(const char *text)
{
    semihosting(0x04, text); /* SYS_WRITE0 */
}

void systick_wrapped(void)
{
    ++n_wraps;
}

uint64_t port_instructions(void)
{
    uint32_t wraps, left;
    do {
        wraps = n_wraps;
        left = SYSTICK[2];
    } while (wraps != n_wraps);
    return NS_PER_TICK * ((uint64_t)wraps * (RELOAD + 1U) + (RELOAD - left));
}

void _start(void)
{
    prepare_memory();
    SYSTICK[1] = RELOAD;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7; /* on, interrupts, the processor's clock */
    const uint32_t result[2] = {0x20026U, (uint32_t)main()}; /* ADP_Stopped_ApplicationExit */
    semihosting(0x20, result);                               /* SYS_EXIT_EXTENDED */
    for (;;) {
    }
}

static void stop(void)
{
    const uint32_t result[2] = {0x20023U, 1U}; /* ADP_Stopped_RunTimeErrorUnknown */
    semihosting(0x20, result);
    for (;;) {
    }
}

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vector_table;

__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    stack_top,
    {_start, stop, stop, stop, stop, stop, 0, 0, 0, 0, stop, stop, 0, stop, systick_wrapped}};
