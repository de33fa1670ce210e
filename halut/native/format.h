/* What an input becomes before it is compared. */
#ifndef HALUT_FORMAT_H
#define HALUT_FORMAT_H
#include <stdint.h>

enum { AS_IT_IS = 0, INTEGERS = 1, SHORT_FLOATS = 2 };

typedef struct {
    int64_t kind;
    int64_t mantissa_bits, min_exponent, has_infinity; /* of short floats */
    double largest; /* of short floats; of integers, which saturate, and 1 more */
} Format;
#endif
