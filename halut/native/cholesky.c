/* Symmetric positive definite systems, for ridge regression: Cholesky's factor L of a matrix, column
 * block by column block, and from it the solutions for many right sides, which lie below the matrix
 * as rows. All is done by products with a block of columns. */
#include "common.h"
#include <math.h>

enum {
    BLOCK = 32,    /* columns that are finished together */
    MOST_ROWS = 6, /* that are worked on together */
    DEEP = 128
};

typedef void MultiplyAdd(const double *, size_t, const double *, size_t, size_t, double *, size_t);

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

#ifdef HAS_X86
#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 4
#define MULTIPLY_ADD(a, b, c) ((V)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#include "cholesky.h"

#define VARIANT avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LANES 8
#define MULTIPLY_ADD(a, b, c) ((V)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#include "cholesky.h"
#endif

/* NULL where BLAS is as fast. */
static MultiplyAdd *multiply_add_of(int variant)
{
#ifdef HAS_X86
    __builtin_cpu_init();
    if (variant == 2 || variant == 3)
        return multiply_add_avx512;
    if (variant == 1 && __builtin_cpu_supports("fma"))
        return multiply_add_avx2;
#endif
    (void)variant;
    return NULL;
}

/* The factor of one block on the diagonal, in place, and the factor's inverse (BLOCK, BLOCK); whether
 * there is one. */
static int factor_block(double *block, size_t stride, double *inverse)
{
    for (size_t j = 0; j < BLOCK; j++)
        for (size_t i = j; i < BLOCK; i++) {
            double sum = block[i * stride + j];
            for (size_t k = 0; k < j; k++)
                sum -= block[i * stride + k] * block[j * stride + k];
            if (i == j && !(sum > 0))
                return 0;
            block[i * stride + j] = i == j ? sqrt(sum) : sum / block[j * stride + j];
        }
    memset(inverse, 0, BLOCK * BLOCK * sizeof *inverse);
    for (size_t j = 0; j < BLOCK; j++)
        for (size_t i = j; i < BLOCK; i++) {
            double sum = i == j;
            for (size_t k = j; k < i; k++)
                sum -= block[i * stride + k] * inverse[k * BLOCK + j];
            inverse[i * BLOCK + j] = sum / block[i * stride + i];
        }
    return 1;
}

/* Rows (n, BLOCK) times a block, in place. */
static void multiply_rows(MultiplyAdd *multiply_add, double *rows, size_t stride, size_t n,
                          const double *block)
{
    double copy[MOST_ROWS * BLOCK];
    for (size_t i = 0; i < n; i += MOST_ROWS) {
        const size_t here = smaller(MOST_ROWS, n - i);
        for (size_t r = 0; r < here; r++) {
            memcpy(copy + r * BLOCK, rows + (i + r) * stride, sizeof *copy * BLOCK);
            memset(rows + (i + r) * stride, 0, sizeof *copy * BLOCK);
        }
        multiply_add(copy, BLOCK, block, BLOCK, here, rows + i * stride, stride);
    }
}

/* The rows of `work` (n + n_sides, stride), n a multiple of BLOCK, hold a symmetric matrix (n, n), of
 * which the lower triangle is read, and right sides (n_sides, n). The latter become the solutions,
 * the former the factor; 2: the matrix is not positive definite, or another library is to solve. */
EXPORT int halut_solve(int variant, double *work, size_t stride, size_t n, size_t n_sides)
{
    MultiplyAdd *multiply_add = multiply_add_of(variant);
    void *blocks[2];
    if (multiply_add == NULL)
        return 2;
    double *columns = aligned(n * BLOCK, sizeof *columns, &blocks[0]);
    double *inverses = aligned(n * BLOCK, sizeof *inverses, &blocks[1]);
    int status = columns == NULL || inverses == NULL;
    /* L, and below it the right sides times the inverse of L's transpose. */
    for (size_t b = 0; b < n && !status; b += BLOCK) {
        double *panel = work + b * stride + b, *inverse = inverses + b * BLOCK;
        double across[BLOCK * BLOCK];
        for (size_t k = 0; k < b; k++)
            for (size_t i = 0; i < BLOCK; i++)
                columns[k * BLOCK + i] = -work[(b + i) * stride + k];
        multiply_add(work + b * stride, stride, columns, b, n + n_sides - b, panel, stride);
        if (!factor_block(panel, stride, inverse)) {
            status = 2;
            break;
        }
        for (size_t i = 0; i < BLOCK; i++)
            for (size_t k = 0; k < BLOCK; k++)
                across[k * BLOCK + i] = inverse[i * BLOCK + k];
        multiply_rows(multiply_add, panel + BLOCK * stride, stride, n + n_sides - b - BLOCK,
                      across);
    }
    /* The solutions: that times the inverse of L. */
    for (size_t end = n; end > 0 && !status; end -= BLOCK) {
        const size_t b = end - BLOCK;
        double *sides = work + n * stride;
        for (size_t k = end; k < n; k++)
            for (size_t i = 0; i < BLOCK; i++)
                columns[(k - end) * BLOCK + i] = -work[k * stride + b + i];
        multiply_add(sides + end, stride, columns, n - end, n_sides, sides + b, stride);
        multiply_rows(multiply_add, sides + b, stride, n_sides, inverses + b * BLOCK);
    }
    free(blocks[0]);
    free(blocks[1]);
    return status;
}
