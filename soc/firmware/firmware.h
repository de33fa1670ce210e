/* What the parts of the firmware share. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

int main(void);

void print(const char *text);
void print_number(uint32_t number);
void mark(uint32_t number); /* a line of the testbench with its counters */

/* Whether looked-up layers use the custom function unit. */
extern int use_unit;

/* What the watch does with every layer that ends: nothing unless `watching`. */
extern int watching;
extern uint32_t n_layers;   /* that ended since it was last set to 0 */
extern uint32_t check_sums[]; /* of their outputs */
#define MOST_LAYERS 64

#endif
