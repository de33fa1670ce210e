#include "halut_driver.h"

#ifndef HALUT_READ
#define HALUT_READ(address) (*(volatile uint32_t *)(address))
#endif
#ifndef HALUT_WRITE
#define HALUT_WRITE(address, value) (*(volatile uint32_t *)(address) = (value))
#endif
#ifndef HALUT_SYNC
#define HALUT_SYNC() ((void)0)
#endif

enum { /* words of an image's head, and of the entry of each program */
    IMAGE_MAGIC, IMAGE_VERSION, IMAGE_BYTES, IMAGE_HASH0, IMAGE_HASH1, IMAGE_PROGRAMS, IMAGE_BASE,
    IMAGE_HEAD = 8
};
enum { ENTRY_FIRST, ENTRY_LOADS, ENTRY_RUN, ENTRY_WORDS = 8 };
#define MAGIC 0x494c4148u /* HALI */
#define IMAGE_FORMAT 1u
#define DESCRIPTOR_WORDS (HALUT_AXI_DESCRIPTOR_BYTES / 4u)
#define END_BIT (1u << HALUT_AXI_DESCRIPTOR_END_LSB)

static uint32_t read_register(const halut_device *device, uint32_t offset)
{
    return HALUT_READ(device->registers + offset);
}

static void write_register(const halut_device *device, uint32_t offset, uint32_t value)
{
    HALUT_WRITE(device->registers + offset, value);
}

static uint32_t status(const halut_device *device)
{
    return read_register(device, HALUT_AXI_STATUS_OFFSET);
}

halut_status halut_open(halut_device *device, uintptr_t registers, uint32_t polls)
{
    uint32_t major;

    device->registers = registers;
    device->polls = polls;
    device->due = 0;
    if (read_register(device, HALUT_AXI_ID_OFFSET) != HALUT_AXI_IDENTITY)
        return HALUT_NOT_FOUND;
    major = read_register(device, HALUT_AXI_VERSION_OFFSET) >> HALUT_AXI_VERSION_MAJOR_LSB;
    if (major != HALUT_AXI_VERSION_MAJOR)
        return HALUT_OTHER_VERSION;
    if (read_register(device, HALUT_AXI_CONFIG_HASH0_OFFSET) != HALUT_AXI_CONFIG_HASH0 ||
        read_register(device, HALUT_AXI_CONFIG_HASH1_OFFSET) != HALUT_AXI_CONFIG_HASH1)
        return HALUT_OTHER_CONFIGURATION;
    return halut_reset(device);
}

halut_status halut_reset(halut_device *device)
{
    uint32_t poll;

    write_register(device, HALUT_AXI_CONTROL_OFFSET, HALUT_AXI_CONTROL_RESET_MASK);
    device->due = 0;
    for (poll = 0; poll < device->polls; poll++)
        if (status(device) == 0)
            return HALUT_OK;
    return HALUT_TIMEOUT;
}

/* Whether the queue takes a chain now: HALUT_OK, HALUT_FULL or HALUT_FAILED. */
static halut_status can_submit(const halut_device *device)
{
    uint32_t now = status(device);

    if (now & (HALUT_AXI_STATUS_HALTED_MASK | HALUT_AXI_STATUS_DRAINING_MASK))
        return HALUT_FAILED;
    return now & HALUT_AXI_STATUS_FULL_MASK ? HALUT_FULL : HALUT_OK;
}

static void ring(halut_device *device, uint32_t first, uint32_t count)
{
    HALUT_SYNC();
    write_register(device, HALUT_AXI_DOORBELL_OFFSET, first);
    device->due += count;
}

halut_status halut_submit(halut_device *device, uint32_t first, uint32_t count)
{
    halut_status found = count == 0 ? HALUT_BAD_ARGUMENT : can_submit(device);

    if (found == HALUT_OK)
        ring(device, first, count);
    return found;
}

halut_status halut_done(const halut_device *device)
{
    if (status(device) & (HALUT_AXI_STATUS_HALTED_MASK | HALUT_AXI_STATUS_DRAINING_MASK))
        return HALUT_FAILED;
    return read_register(device, HALUT_AXI_COMPLETED_OFFSET) == device->due ? HALUT_OK : HALUT_BUSY;
}

halut_status halut_wait(halut_device *device)
{
    uint32_t poll;

    for (poll = 0; poll < device->polls; poll++) {
        halut_status found = halut_done(device);
        if (found != HALUT_BUSY) {
            HALUT_SYNC();
            return found;
        }
    }
    return HALUT_TIMEOUT;
}

uint32_t halut_errors(const halut_device *device)
{
    return read_register(device, HALUT_AXI_ERROR_OFFSET);
}

uint32_t halut_error_address(const halut_device *device)
{
    return read_register(device, HALUT_AXI_ERROR_ADDRESS_OFFSET);
}

void halut_interrupts(const halut_device *device, uint32_t which)
{
    write_register(device, HALUT_AXI_IRQ_ENABLE_OFFSET, which);
}

uint32_t halut_acknowledge(const halut_device *device)
{
    uint32_t found = read_register(device, HALUT_AXI_IRQ_STATUS_OFFSET);

    write_register(device, HALUT_AXI_IRQ_STATUS_OFFSET, found);
    return found;
}

static const uint32_t *entry(const halut_image *image, uint32_t program)
{
    return image->words + IMAGE_HEAD + program * ENTRY_WORDS;
}

/* Whether `count` descriptors at an offset are inside of an image. */
static int inside(uint32_t offset, uint32_t count, uint32_t bytes)
{
    return offset % 4u == 0 && offset <= bytes &&
           count <= (bytes - offset) / HALUT_AXI_DESCRIPTOR_BYTES;
}

halut_status halut_place(halut_image *image, void *data, uint32_t bytes, uint32_t address)
{
    uint32_t *words = data;
    uint32_t program, k, moved;

    if (bytes < 4u * IMAGE_HEAD || words[IMAGE_MAGIC] != MAGIC ||
        words[IMAGE_VERSION] != IMAGE_FORMAT || words[IMAGE_BYTES] != bytes ||
        words[IMAGE_PROGRAMS] > (bytes / 4u - IMAGE_HEAD) / ENTRY_WORDS)
        return HALUT_BAD_ARGUMENT;
    if (words[IMAGE_HASH0] != HALUT_AXI_CONFIG_HASH0 || words[IMAGE_HASH1] != HALUT_AXI_CONFIG_HASH1)
        return HALUT_OTHER_CONFIGURATION;
    image->words = words;
    image->programs = words[IMAGE_PROGRAMS];
    for (program = 0; program < image->programs; program++) {
        const uint32_t *part = entry(image, program);
        if (part[ENTRY_LOADS] == 0 || !inside(part[ENTRY_FIRST], part[ENTRY_LOADS], bytes) ||
            !inside(part[ENTRY_RUN], 1, bytes))
            return HALUT_BAD_ARGUMENT;
    }
    moved = address - words[IMAGE_BASE];
    for (program = 0; program < image->programs; program++) {
        const uint32_t *part = entry(image, program);
        uint32_t *descriptor = words + part[ENTRY_FIRST] / 4u;
        for (k = 0; k < part[ENTRY_LOADS]; k++, descriptor += DESCRIPTOR_WORDS) {
            descriptor[HALUT_AXI_DESCRIPTOR_NEXT_WORD] += moved;
            descriptor[HALUT_AXI_DESCRIPTOR_SOURCE_WORD] += moved;
        }
    }
    words[IMAGE_BASE] = address;
    return HALUT_OK;
}

static uint32_t *run_of(const halut_image *image, uint32_t program)
{
    return image->words + entry(image, program)[ENTRY_RUN] / 4u;
}

/* The last of the descriptors that load a program. */
static uint32_t *last_load(const halut_image *image, uint32_t program)
{
    const uint32_t *part = entry(image, program);
    return image->words + part[ENTRY_FIRST] / 4u + (part[ENTRY_LOADS] - 1u) * DESCRIPTOR_WORDS;
}

static void let_end(uint32_t *descriptor)
{
    descriptor[0] |= END_BIT;
}

/* Let a descriptor be followed by that at an offset of the image. */
static void let_follow(const halut_image *image, uint32_t *descriptor, uint32_t offset)
{
    descriptor[0] &= ~END_BIT;
    descriptor[HALUT_AXI_DESCRIPTOR_NEXT_WORD] = image->words[IMAGE_BASE] + offset;
}

static void let_run(uint32_t *descriptor, uint32_t source, uint32_t destination, uint32_t items)
{
    descriptor[HALUT_AXI_DESCRIPTOR_SOURCE_WORD] = source;
    descriptor[HALUT_AXI_DESCRIPTOR_DESTINATION_WORD] = destination;
    descriptor[HALUT_AXI_DESCRIPTOR_COUNT_WORD] = items;
}

halut_status halut_chain(halut_device *device, const halut_image *image, const halut_job *jobs,
                         uint32_t count)
{
    uint32_t k, descriptors = 0;
    halut_status found;

    for (k = 0; k < count; k++)
        if (jobs[k].program >= image->programs || jobs[k].items == 0)
            return HALUT_BAD_ARGUMENT;
    if (count == 0)
        return HALUT_BAD_ARGUMENT;
    found = can_submit(device);
    if (found != HALUT_OK) /* descriptors do not change in vain */
        return found;
    for (k = 0; k < count; k++) {
        const uint32_t *part = entry(image, jobs[k].program);
        uint32_t *run = run_of(image, jobs[k].program);
        let_follow(image, last_load(image, jobs[k].program), part[ENTRY_RUN]);
        let_run(run, jobs[k].source, jobs[k].destination, jobs[k].items);
        if (k + 1u < count)
            let_follow(image, run, entry(image, jobs[k + 1u].program)[ENTRY_FIRST]);
        else
            let_end(run);
        descriptors += part[ENTRY_LOADS] + 1u;
    }
    ring(device, image->words[IMAGE_BASE] + entry(image, jobs[0].program)[ENTRY_FIRST], descriptors);
    return HALUT_OK;
}

halut_status halut_load(halut_device *device, const halut_image *image, uint32_t program)
{
    const uint32_t *part;
    uint32_t *last;

    if (program >= image->programs)
        return HALUT_BAD_ARGUMENT;
    part = entry(image, program);
    last = last_load(image, program);
    if (!(last[0] & END_BIT)) { /* left by a chain, which may be in use */
        halut_status found = halut_wait(device);
        if (found != HALUT_OK)
            return found;
        let_end(last);
    }
    return halut_submit(device, image->words[IMAGE_BASE] + part[ENTRY_FIRST], part[ENTRY_LOADS]);
}

halut_status halut_run(halut_device *device, const halut_image *image, uint32_t program,
                       uint32_t source, uint32_t destination, uint32_t items)
{
    uint32_t *descriptor;
    halut_status found;

    if (program >= image->programs || items == 0)
        return HALUT_BAD_ARGUMENT;
    /* The descriptor may be in use: it must not change then. */
    found = halut_wait(device);
    if (found != HALUT_OK)
        return found;
    descriptor = run_of(image, program);
    let_run(descriptor, source, destination, items);
    let_end(descriptor);
    return halut_submit(device, image->words[IMAGE_BASE] + entry(image, program)[ENTRY_RUN], 1);
}
