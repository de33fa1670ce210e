/* What GCC calls on its own, without a C library; and memory before main. */
#ifndef PORT_MEMORY_H
#define PORT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

extern uint32_t data_source[], data_start[], data_end[], bss_start[], bss_end[]; /* by the linker */

void *memcpy(void *target, const void *source, size_t n);
void *memset(void *target, int value, size_t n);

void *memcpy(void *target, const void *source, size_t n)
{
    const unsigned char *from = (const unsigned char *)source;
    for (unsigned char *to = (unsigned char *)target; n != 0; --n)
        *to++ = *from++;
    return target;
}

void *memset(void *target, int value, size_t n)
{
    for (unsigned char *to = (unsigned char *)target; n != 0; --n)
        *to++ = (unsigned char)value;
    return target;
}

static void prepare_memory(void)
{
    const uint32_t *from = data_source;
    for (uint32_t *to = data_start; to != data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_start; to != bss_end;)
        *to++ = 0;
}

#endif
