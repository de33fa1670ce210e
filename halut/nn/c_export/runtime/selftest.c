/* Runs a network on the inputs of its test vector; every bit of its outputs must be as expected. */
#include "network.h"
#include "port.h"
#include "vector.h"

static network_workspace workspace;

static void print_number(uint64_t number)
{
    char text[21], *digit = text + 20;
    *digit = '\0';
    do
        *--digit = (char)('0' + (int)(number % 10U));
    while ((number /= 10U) != 0U);
    port_print(digit);
}

static uint32_t bits_of(float value)
{
    union { float value; uint32_t bits; } same;
    same.value = value;
    return same.bits;
}

static float value_of(uint32_t bits)
{
    union { float value; uint32_t bits; } same;
    same.bits = bits;
    return same.value;
}

int main(void)
{
    static float input[NETWORK_INPUTS], output[NETWORK_OUTPUTS];
    uint64_t n_instructions = 0;
    uint32_t n_wrong = 0;
    if (network_check_tables() != 0) {
        port_print("FAILED: tables must have the check sum that they were written with\n");
        return 1;
    }
    for (uint32_t image = 0; image < VECTOR_IMAGES; ++image) {
        for (uint32_t i = 0; i < NETWORK_INPUTS; ++i)
            input[i] = value_of(vector_inputs[image][i]);
        const uint64_t before = port_instructions();
        if (network_run(&workspace, input, output) != 0) {
            port_print("FAILED: inputs must be finite\n");
            return 1;
        }
        n_instructions += port_instructions() - before;
        for (uint32_t i = 0; i < NETWORK_OUTPUTS; ++i)
            n_wrong += bits_of(output[i]) != vector_outputs[image][i];
    }
    if (n_instructions != 0) {
        print_number(n_instructions / VECTOR_IMAGES);
        port_print(" instructions per input\n");
    }
    if (n_wrong != 0) {
        port_print("FAILED: ");
        print_number(n_wrong);
        port_print(" outputs differ\n");
        return 1;
    }
    port_print("passed: ");
    print_number((uint64_t)VECTOR_IMAGES * NETWORK_OUTPUTS);
    port_print(" outputs of ");
    print_number(VECTOR_IMAGES);
    port_print(" inputs equal\n");
    return 0;
}
