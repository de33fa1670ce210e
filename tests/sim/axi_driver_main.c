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

int main(int argc, char **argv)
{
    unsigned char *memory;
    uint32_t n[5];
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
    if (argc != 7 || (file = open(argv[1], O_RDWR)) < 0)
        return 1;
    for (k = 0; k < 5; k++)
        n[k] = (uint32_t)strtoul(argv[k + 2], NULL, 10);
    memory = mmap(NULL, n[0], PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        return 1;
    printf("q %d\n", (int)multiply(memory, 0, n[1], n[2], n[3], n[4]));
    return 0;
}
