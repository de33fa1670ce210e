/* The driver of the accelerator on this system. */

/* Drops the data cache of VexRiscv; stores are in memory already. */
#define HALUT_SYNC() __asm__ volatile(".word 0x500f" ::: "memory")
#include "halut_driver.c"
