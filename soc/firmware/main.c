/* Classifies images in several ways, compares every layer with what it must give, and marks when.
 *
 * The first images run once more, without the comparison: 10 * way + 1 and + 2 mark their begin and
 * end, 10 * way + 3 that marks of layers follow (watch.c). Another way to run a network is another
 * line of `ways`. */
#include "expected.h"
#include "firmware.h"
#include "outputs.h"

/* The two networks (one_network.c); their workspaces begin at a word. */
int plain_run(void *workspace, const float *input, float *output);
int plain_check(void);
int looked_up_run(void *workspace, const float *input, float *output);
int looked_up_check(void);

static uint64_t workspace[(WORKSPACE_BYTES + 7) / 8];

typedef struct {
    const char *name;
    int (*run)(void *, const float *, float *);
    worker look_ups_by;
    uint32_t n_images;
    uint32_t n_layers;
    const uint32_t *sums;    /* (images, layers) */
    const uint32_t *outputs; /* (images, EXPECTED_OUTPUTS), bits of floats */
} way;

static const way ways[] = {
    {"plain", plain_run, SOFTWARE, PLAIN_IMAGES, PLAIN_LAYERS, plain_sums, plain_outputs},
    {"software", looked_up_run, SOFTWARE, SOFTWARE_IMAGES, LOOKED_UP_LAYERS, looked_up_sums,
     looked_up_outputs},
    {"unit", looked_up_run, UNIT, UNIT_IMAGES, LOOKED_UP_LAYERS, looked_up_sums, looked_up_outputs},
    {"accelerator", looked_up_run, ACCELERATOR_BLOCK, ACCELERATOR_IMAGES, LOOKED_UP_LAYERS,
     looked_up_sums, looked_up_outputs},
};

static uint32_t count_wrong_layers(const way *one, uint32_t image)
{
    if (n_layers != one->n_layers)
        return one->n_layers + 1;
    uint32_t n_wrong = 0;
    for (uint32_t i = 0; i < n_layers; ++i)
        n_wrong += check_sums[i] != one->sums[image * one->n_layers + i];
    return n_wrong;
}

static void print_pair(const char *name, uint32_t number)
{
    print(" ");
    print(name);
    print(" ");
    print_number(number);
}

/* Runs a network; returns its status, or 1 when the accelerator did not do all that it should. */
static int run(const way *one, const float *input, float *output)
{
    begin_network();
    const int status = one->run(workspace, input, output);
    return status | (one->look_ups_by == ACCELERATOR_BLOCK && !ended_network());
}

/* Prints the cycles of every group of a layer, of the last image. */
static void print_busy_cycles(void)
{
    for (uint32_t group = 0; accelerator_group_cycles(group) != 0; ++group) {
        print_pair("busy_group", group);
        print_pair("cycles", accelerator_group_cycles(group));
        print("\n");
    }
}

/* Returns how much is wrong. */
static uint32_t classify(uint32_t number, const way *one)
{
    static float output[EXPECTED_OUTPUTS];
    uint32_t n_wrong_outputs = 0, n_wrong_layers = 0, n_right = 0;
    uint32_t busy = 0;
    look_ups_by = one->look_ups_by;
    for (uint32_t image = 0; image < one->n_images; ++image) {
        const float *const input = expected_inputs[image];
        const uint32_t *const wanted = one->outputs + image * EXPECTED_OUTPUTS;
        int status = 0;
        if (image < TIMED_IMAGES) {
            watching = 0;
            busy -= accelerator_cycles();
            mark(10U * number + 1U);
            status = run(one, input, output);
            mark(10U * number + 2U);
            busy += accelerator_cycles();
            n_wrong_outputs += count_wrong_outputs(output, wanted);
        }
        watching = 1;
        n_layers = 0;
        mark(10U * number + 3U);
        status |= run(one, input, output);
        n_wrong_layers += count_wrong_layers(one, image);
        n_wrong_outputs += status != 0 ? EXPECTED_OUTPUTS : count_wrong_outputs(output, wanted);
        n_right += largest(output) == expected_classes[image];
    }
    print("way ");
    print(one->name);
    print_pair("images", one->n_images);
    print_pair("layers", one->n_layers);
    print_pair("wrong_layers", n_wrong_layers);
    print_pair("wrong_outputs", n_wrong_outputs);
    print_pair("classes", n_right);
    print_pair("busy", busy);
    print("\n");
    if (one->look_ups_by == ACCELERATOR_BLOCK)
        print_busy_cycles();
    return n_wrong_layers + n_wrong_outputs;
}

int main(void)
{
    if (plain_check() != 0 || looked_up_check() != 0) {
        print("error: tables must have the check sum that they were written with\n");
        return 1;
    }
    if (!open_accelerator()) {
        print("error: the accelerator must be the one that the image was made for\n");
        return 1;
    }
    uint32_t n_wrong = 0;
    for (uint32_t number = 0; number < sizeof ways / sizeof ways[0]; ++number)
        n_wrong += classify(number, &ways[number]);
    return n_wrong != 0;
}
