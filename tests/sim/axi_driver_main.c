/* The example of the driver on a host: registers are asked for on stdout, answers come on stdin. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint32_t ask(uintptr_t offset)
{
    unsigned int value = 0;
    printf("r %x\n", (unsigned int)offset);
    fflush(stdout);
    if (scanf("%x", &value) != 1)
        exit(1);
    return value;
}

static void put(uintptr_t offset, uint32_t value)
{
    unsigned int ignored;
    printf("w %x %x\n", (unsigned int)offset, (unsigned int)value);
    fflush(stdout);
    if (scanf("%x", &ignored) != 1)
        exit(1);
}

#define HALUT_READ(address) ask(address)
#define HALUT_WRITE(address, value) put(address, value)
#define REGISTERS 0
#define POLLS 400u
#include "halut_driver.c"

#include "axi_driver.c"

/* Runs both programs of the image as one chain, on the same rows. */
static halut_status chain(unsigned char *memory, const uint32_t *n)
{
    halut_device device;
    halut_image image;
    const halut_job jobs[2] = {{0, n[2], n[3], n[4]}, {1, n[2], n[3] + n[4] * n[5], n[4]}};
    const halut_job wrong = {2, 0, 0, 1};
    halut_status status = halut_open(&device, REGISTERS, POLLS);

    if (status == HALUT_OK)
        status = halut_place(&image, memory, n[1], 0);
    if (status == HALUT_OK && (halut_chain(&device, &image, &wrong, 1) != HALUT_BAD_ARGUMENT ||
                               halut_chain(&device, &image, jobs, 0) != HALUT_BAD_ARGUMENT))
        return HALUT_FAILED;
    if (status == HALUT_OK)
        status = halut_chain(&device, &image, jobs, 2);
    return status == HALUT_OK ? halut_wait(&device) : status;
}

int main(int argc, char **argv)
{
    unsigned char *memory;
    uint32_t n[6];
    int k, file;

    if (argc == 2) { /* what was acknowledged, twice */
        halut_device device;
        uint32_t first;
        if (halut_open(&device, REGISTERS, POLLS) != HALUT_OK)
            return 1;
        halut_interrupts(&device, HALUT_IRQ_DONE);
        first = halut_acknowledge(&device);
        printf("q %u\n", (unsigned int)(10 * first + halut_acknowledge(&device)));
        return 0;
    }
    if ((argc != 7 && argc != 8) || (file = open(argv[1], O_RDWR)) < 0)
        return 1;
    for (k = 0; k < argc - 2; k++)
        n[k] = (uint32_t)strtoul(argv[k + 2], NULL, 10);
    memory = mmap(NULL, n[0], PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        return 1;
    if (argc == 8) {
        printf("q %d\n", (int)chain(memory, n));
        return 0;
    }
    printf("q %d\n", (int)multiply(memory, 0, n[1], n[2], n[3], n[4]));
    return 0;
}
