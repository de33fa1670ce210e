/* What the self test needs of a machine. */
#ifndef PORT_H
#define PORT_H

#include <stdint.h>

void port_print(const char *text);

/* Instructions since the start; 0 for ever where they are not counted. */
uint64_t port_instructions(void);

#endif
