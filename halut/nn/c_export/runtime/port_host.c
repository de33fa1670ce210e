/* The self test on an operating system. */
#include <stdio.h>

#include "port.h"

void port_print(const char *text)
{
    fputs(text, stdout);
}

uint64_t port_instructions(void)
{
    return 0;
}
