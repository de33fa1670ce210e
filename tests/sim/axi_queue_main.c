/* A chain for a block whose queue is full: nothing changes until it takes one. Reads an image on stdin. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t read_register_at(uintptr_t offset);
static uint32_t doorbells;
#define HALUT_READ(address) read_register_at(address)
#define HALUT_WRITE(address, value) \
    (void)(doorbells += (address) == HALUT_AXI_DOORBELL_OFFSET && (value) != 0)
#include "halut_driver.c"

static uint32_t status_now;

static uint32_t read_register_at(uintptr_t offset)
{
    return offset == HALUT_AXI_STATUS_OFFSET ? status_now : 0;
}

int main(void)
{
    static uint32_t data[1 << 16], before[1 << 16];
    halut_device device = {0, 1, 0};
    halut_image image;
    const halut_job jobs[2] = {{0, 4096, 8192, 3}, {1, 4096, 12288, 3}};
    const uint32_t bytes = (uint32_t)fread(data, 1, sizeof data, stdin);
    int poll;

    if (halut_place(&image, data, bytes, 1 << 20) != HALUT_OK)
        return 1;
    memcpy(before, data, sizeof data);
    status_now = HALUT_AXI_STATUS_FULL_MASK | HALUT_AXI_STATUS_BUSY_MASK;
    for (poll = 0; poll < 3; poll++)
        if (halut_chain(&device, &image, jobs, 2) != HALUT_FULL)
            return 2;
    status_now = HALUT_AXI_STATUS_HALTED_MASK;
    if (halut_chain(&device, &image, jobs, 2) != HALUT_FAILED)
        return 3;
    if (memcmp(before, data, sizeof data) != 0 || doorbells != 0 || device.due != 0)
        return 4;
    status_now = HALUT_AXI_STATUS_BUSY_MASK;
    if (halut_chain(&device, &image, jobs, 2) != HALUT_OK)
        return 5;
    return memcmp(before, data, sizeof data) == 0 || doorbells != 1 || device.due == 0 ? 6 : 0;
}
