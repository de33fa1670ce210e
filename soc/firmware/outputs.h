/* What a network gives, beside what it must give; included behind expected.h. */
#ifndef OUTPUTS_H
#define OUTPUTS_H

static uint32_t largest(const float *values)
{
    uint32_t found = 0;
    for (uint32_t i = 1; i < EXPECTED_OUTPUTS; ++i)
        if (values[i] > values[found])
            found = i;
    return found;
}

static uint32_t count_wrong_outputs(const float *output, const uint32_t *wanted)
{
    uint32_t n_wrong = 0;
    for (uint32_t i = 0; i < EXPECTED_OUTPUTS; ++i) {
        union { float value; uint32_t bits; } same;
        same.value = output[i];
        n_wrong += same.bits != wanted[i];
    }
    return n_wrong;
}

#endif
