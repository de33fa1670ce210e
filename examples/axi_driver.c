/* Rows through an accelerator behind halut_axi: the driver in C. */
#include "halut_driver.h"

#ifndef REGISTERS /* where the block's registers are */
#define REGISTERS 0x80000000u
#endif
#ifndef POLLS /* how often a wait looks before it gives up */
#define POLLS 1000000u
#endif

/* Load the first program of an image and let `items` row groups pass through it.

   memory  what the block's bus master reaches, at `address` on the bus: the image (of `bytes`), then
           the rows at the offset `rows`; the results come at the offset `results` */
halut_status multiply(unsigned char *memory, uint32_t address, uint32_t bytes, uint32_t rows,
                      uint32_t results, uint32_t items)
{
    halut_device device;
    halut_image image;
    halut_status status;

    status = halut_open(&device, REGISTERS, POLLS);
    if (status != HALUT_OK)
        return status; /* no block, or one that the header was not made for */
    status = halut_place(&image, memory, bytes, address);
    if (status != HALUT_OK)
        return status;
    status = halut_load(&device, &image, 0);
    if (status != HALUT_OK)
        return status;
    status = halut_run(&device, &image, 0, address + rows, address + results, items);
    if (status != HALUT_OK)
        return status;
    return halut_wait(&device); /* or do something else, and ask halut_done */
}
