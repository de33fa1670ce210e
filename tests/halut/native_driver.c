/* Runs the kernels on what comes from stdin, for processors that have no Python here.
 *
 * int64: variant, kind of values, rows, features, by columns, codebooks, depth, outputs, layout,
 * kind of entries, entry bytes, stage, low, high, every. Then rows, split dimensions, thresholds,
 * tables, offsets of float tables, scale and offset of the stage. To stdout: status of the product,
 * codes, products, sums of the codes. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const void *values;
    int kind;
    size_t n_rows, n_features;
    ptrdiff_t row_stride, column_stride;
} Rows;

typedef struct {
    int kind;
    const float *scale, *offset;
} Stage;

int halut_supports(int);
size_t halut_table_bytes(int, size_t, size_t, size_t);
void halut_make_tables(int, int, const void *, const float *, size_t, size_t, size_t, char *);
int halut_encode(int, const Rows *, size_t, size_t, const int32_t *, const float *, uint8_t *);
int halut_product(int, const Rows *, size_t, size_t, const int32_t *, const float *, size_t, int,
                  const void *, const Stage *, void *);
int halut_look_up(int, const uint8_t *, size_t, size_t, size_t, size_t, int, const void *, int32_t,
                  int32_t, size_t, const Stage *, void *);

static void *get(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (memory == NULL || fread(memory, size, count, stdin) != count)
        exit(3);
    return memory;
}

int main(void)
{
    const int64_t *n = get(15, 8);
    const int variant = (int)n[0], layout = (int)n[8];
    const size_t N = (size_t)n[2], D = (size_t)n[3], C = (size_t)n[5], depth = (size_t)n[6];
    const size_t M = (size_t)n[7], K = (size_t)1 << depth;
    if (!halut_supports(variant))
        return 4;
    const Rows rows = {get(N * D, n[1] ? 1 : 4), (int)n[1], N, D, n[4] ? 1 : (ptrdiff_t)D,
                       n[4] ? (ptrdiff_t)N : 1};
    const int32_t *dims = get(C * depth, 4);
    const float *thresholds = get(C * (K - 1), 4);
    const void *lut = get(M * C * K, (size_t)n[10]);
    const float *first = get(M, 4), *scale = get(M, 4), *offset = get(M, 4);
    char *tables = aligned_alloc(64, halut_table_bytes(layout, C, K, M));
    uint8_t *codes = calloc(N * C + 1, 1);
    int32_t *product = calloc(N * M + 1, 4), *sums = calloc(N * M + 1, 4);
    if (tables == NULL || codes == NULL || product == NULL || sums == NULL)
        return 3;
    const Stage stage = {(int)n[11], scale, offset}, raw = {0, NULL, NULL};
    halut_make_tables(layout, (int)n[9], lut, n[9] ? NULL : first, C, K, M, tables);
    halut_encode(variant, &rows, C, depth, dims, thresholds, codes);
    const int32_t status = halut_product(variant, &rows, C, depth, dims, thresholds, M, layout,
                                         tables, &stage, product);
    halut_look_up(variant, codes, N, C, K, M, layout, tables, (int32_t)n[12], (int32_t)n[13],
                  (size_t)n[14], &raw, sums);
    fwrite(&status, 4, 1, stdout);
    fwrite(codes, 1, N * C, stdout);
    fwrite(product, 4, N * M, stdout);
    fwrite(sums, 4, N * M, stdout);
    return 0;
}
