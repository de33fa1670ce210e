/* Driver of halut_axi with a bus master. C99, freestanding: no allocation, no library, and no wait
   without an end.

   HALUT_AXI_REGISTERS is the header that `python -m rtl_gen axi` wrote, "halut_axi.h" unless it is
   defined. HALUT_READ, HALUT_WRITE and HALUT_SYNC can be defined, too: how a register is accessed, and
   what makes memory the same for the processor and for the bus (write back and drop the data cache). */
#ifndef HALUT_DRIVER_H
#define HALUT_DRIVER_H
#include <stdint.h>

#ifndef HALUT_AXI_REGISTERS
#define HALUT_AXI_REGISTERS "halut_axi.h"
#endif
#include HALUT_AXI_REGISTERS
#ifndef HALUT_AXI_DOORBELL_OFFSET
#error "the block has streams and no bus master: it is not driven by descriptors in memory"
#endif

#define HALUT_IRQ_DONE HALUT_AXI_IRQ_STATUS_DONE_MASK
#define HALUT_IRQ_ERROR HALUT_AXI_IRQ_STATUS_ERROR_MASK

typedef enum {
    HALUT_OK = 0,
    HALUT_NOT_FOUND,           /* ID is another one */
    HALUT_OTHER_VERSION,       /* the interface has another major version */
    HALUT_OTHER_CONFIGURATION, /* block, header or image are of different configurations */
    HALUT_BAD_ARGUMENT,
    HALUT_BUSY,    /* what was begun is not done yet */
    HALUT_FULL,    /* the queue of doorbells takes nothing now */
    HALUT_TIMEOUT, /* not done after as many polls as allowed */
    HALUT_FAILED   /* an error stopped the block: halut_errors says which */
} halut_status;

typedef struct {
    uintptr_t registers; /* address of the registers */
    uint32_t polls;      /* how often a wait looks before it gives up */
    uint32_t due;        /* what COMPLETED reads when all that was submitted is done */
} halut_device;

typedef struct {
    uint32_t *words; /* the image in memory */
    uint32_t programs;
} halut_image;

/* Find the block and reset it. Refuses one that the header was not made for. */
halut_status halut_open(halut_device *device, uintptr_t registers, uint32_t polls);

/* End what runs, clear errors and counters, and wait until the bus is at rest. A loaded program stays,
   unless its load was ended. */
halut_status halut_reset(halut_device *device);

/* Submit a chain of `count` descriptors, the first of them at the bus address `first`. */
halut_status halut_submit(halut_device *device, uint32_t first, uint32_t count);

/* Wait until all that was submitted is done. */
halut_status halut_wait(halut_device *device);

/* Whether all that was submitted is done: HALUT_OK, HALUT_BUSY or HALUT_FAILED. */
halut_status halut_done(const halut_device *device);

/* Bits of ERROR, and where the first error was. */
uint32_t halut_errors(const halut_device *device);
uint32_t halut_error_address(const halut_device *device);

/* Let these of HALUT_IRQ_DONE and HALUT_IRQ_ERROR raise the interrupt, and no others. */
void halut_interrupts(const halut_device *device, uint32_t which);

/* Which of them happened since the last call; they do not raise the interrupt any more. */
uint32_t halut_acknowledge(const halut_device *device);

/* Check an image of `bytes` bytes that lies at `data` (a multiple of 4), and let its descriptors have addresses of the
   bus, on which it begins at `address`. May be called again for another address. */
halut_status halut_place(halut_image *image, void *data, uint32_t bytes, uint32_t address);

/* A run of a program of the image: items from one address of the bus to another. */
typedef struct {
    uint32_t program, source, destination, items;
} halut_job;

/* Submit `count` runs as one chain: the block loads each program and runs it, one after the other,
   while the processor does something else. Each program is at most once among them, and none is of
   a chain that is not done yet: its descriptors change. HALUT_FULL: nothing was submitted or changed. */
halut_status halut_chain(halut_device *device, const halut_image *image, const halut_job *jobs,
                         uint32_t count);

/* Load a program of the image. */
halut_status halut_load(halut_device *device, const halut_image *image, uint32_t program);

/* Let items (row groups, or images) pass through the program that was loaded last, which is this one;
   source and destination are addresses of the bus. */
halut_status halut_run(halut_device *device, const halut_image *image, uint32_t program,
                       uint32_t source, uint32_t destination, uint32_t items);
#endif
