/* What an input becomes before it is compared. */
#ifndef HALUT_FORMAT_H
#define HALUT_FORMAT_H
#include "common.h"
#include <math.h>

enum { AS_IT_IS = 0, INTEGERS = 1, SHORT_FLOATS = 2 };

typedef struct {
    int64_t kind;
    int64_t mantissa_bits, min_exponent, has_infinity; /* of short floats */
    double largest; /* of short floats; of integers, which saturate, and 1 more */
} Format;

/* A value in words, before they saturate; adding so large a number rounds to an integer. */
INLINE double word_of(float x, double scale, double offset)
{
    const double word = ((double)x - offset) / scale;
    const double rounded = (word + 6755399441055744.0) - 6755399441055744.0;
    return fabs(word) < 1e15 ? rounded : word;
}
#endif
