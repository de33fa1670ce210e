/* What the parts of the firmware share. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

int main(void);

void print(const char *text);
void print_number(uint32_t number);
void mark(uint32_t number); /* a line of the testbench with its counters */

/* What looks layers up. */
typedef enum { SOFTWARE, UNIT, ACCELERATOR_BLOCK } worker;
extern worker look_ups_by;

/* The accelerator: find it, once; before a network runs; whether it looked up all that it has; cycles
 * that it was busy so far, and in the last network for a group of a layer, its loads and runs (0: there
 * is no such group). */
int open_accelerator(void);
void begin_network(void);
int ended_network(void);
uint32_t accelerator_cycles(void);
uint32_t accelerator_group_cycles(uint32_t group);

/* What the watch does with every layer that ends: nothing unless `watching`. */
extern int watching;
extern uint32_t n_layers;   /* that ended since it was last set to 0 */
extern uint32_t check_sums[]; /* of their outputs */
#define MOST_LAYERS 64

#endif
