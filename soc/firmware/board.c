/* Classifies images on a board with custom instructions, and prints each class and its cycles. */
#include "expected.h"
#include "firmware.h"
#include "outputs.h"

/* The network (one_network.c); its workspace begins at a word. */
int looked_up_run(void *workspace, const float *input, float *output);
int looked_up_check(void);

static uint64_t workspace[(WORKSPACE_BYTES + 7) / 8];

static uint32_t cycles(void)
{
    uint32_t number;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, mcycle\n.option pop"
                     : "=r"(number));
    return number;
}

int main(void)
{
    static float output[EXPECTED_OUTPUTS];
    uint32_t n_wrong = 0;
    if (looked_up_check() != 0) {
        print("error: tables must have the check sum that they were written with\n");
        return 1;
    }
    look_ups_by = UNIT;
    for (uint32_t image = 0; image < UNIT_IMAGES; ++image) {
        const uint32_t begin = cycles();
        const int status = looked_up_run(workspace, expected_inputs[image], output);
        const uint32_t took = cycles() - begin;
        const uint32_t *const wanted = looked_up_outputs + image * EXPECTED_OUTPUTS;
        const int is_right = status == 0 && count_wrong_outputs(output, wanted) == 0;
        n_wrong += !is_right;
        print("image ");
        print_number(image);
        print(" class ");
        print_number(largest(output));
        print(" cycles ");
        print_number(took);
        print(is_right ? "\n" : " wrong\n");
    }
    print("wrong ");
    print_number(n_wrong);
    print("\n");
    return n_wrong != 0;
}
