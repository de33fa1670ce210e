/* Tables of at most 16 one-byte entries, for AVX-512 with VBMI and VNNI: one permutation of 64
 * bytes looks up four codebooks (a quad) of one output for 16 rows, and one dot product with ones
 * adds them.
 *
 * A word of codes holds in byte j 16 * j + code, the place in the 64 bytes of a quad's tables.
 * Tables are (outputs / 4, quads, 4, 64 bytes).
 */
#define TARGET_QUADS \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")))

enum { QUAD_OUTPUTS = 4, QUAD_ROWS = 64, QUAD_SLICE = 16 };

/* Sums (QUAD_OUTPUTS, QUAD_ROWS) of one tile. */
TARGET_QUADS INLINE void add_quads(const uint8_t *codes, const int8_t *table, size_t n_quads,
                                   int32_t *sums)
{
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum[QUAD_OUTPUTS][QUAD_ROWS / 16];
    UNROLL
    for (size_t o = 0; o < QUAD_OUTPUTS; o++)
        for (size_t i = 0; i < QUAD_ROWS / 16; i++)
            sum[o][i] = _mm512_setzero_si512();
    for (size_t q = 0; q < n_quads; q++) {
        __m512i word[QUAD_ROWS / 16];
        UNROLL
        for (size_t i = 0; i < QUAD_ROWS / 16; i++)
            word[i] = _mm512_load_si512(codes + 64 * i);
        UNROLL
        for (size_t o = 0; o < QUAD_OUTPUTS; o++) {
            const __m512i entries = _mm512_load_si512(table + 64 * o);
            UNROLL
            for (size_t i = 0; i < QUAD_ROWS / 16; i++)
                sum[o][i] = _mm512_dpbusd_epi32(sum[o][i], ones,
                                                _mm512_permutexvar_epi8(word[i], entries));
        }
        codes += ROWS * 4;
        table += QUAD_OUTPUTS * 64;
    }
    UNROLL
    for (size_t o = 0; o < QUAD_OUTPUTS; o++)
        for (size_t i = 0; i < QUAD_ROWS / 16; i++)
            _mm512_store_si512(sums + o * QUAD_ROWS + 16 * i, sum[o][i]);
}

/* Sixteen vectors of 16 values, read as columns. */
TARGET_QUADS INLINE void transpose(__m512i *v)
{
    __m512i t[16];
    UNROLL
    for (size_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (size_t i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* Lane l of v[4 * b + j] is column 4 * l + j of rows 4 * b and on; lanes of 128 bits. */
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        t[j] = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xdd);
        t[8 + j] = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xdd);
    }
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
        v[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
        v[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88);
        v[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);
    }
}

/* One slice of outputs, `first` and `n` on, for the rows of a block. */
TARGET_QUADS static void look_up_quads(const uint8_t *codes, const int8_t *table, size_t n_quads,
                                       size_t n_rows, size_t first, size_t n, const Stage *stage,
                                       void *out, size_t stride, Ahead *ahead)
{
    int32_t block[QUAD_SLICE * QUAD_ROWS + 16];
    int32_t *sums = (int32_t *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
    const __mmask16 some = (__mmask16)(0xffffU >> (QUAD_SLICE - n));
    __m512 scale = _mm512_setzero_ps(), offset = scale;
    if (stage->kind == DEQUANTIZED) {
        scale = _mm512_maskz_loadu_ps(some, stage->scale + first);
        offset = _mm512_maskz_loadu_ps(some, stage->offset + first);
    }
    for (size_t begin = 0; begin < n_rows; begin += QUAD_ROWS) {
        for (size_t o = 0; o < n; o += QUAD_OUTPUTS) {
            fetch_ahead(ahead, QUAD_ROWS / QUAD_OUTPUTS);
            add_quads(codes + begin * 4, table + o * n_quads * 64, n_quads, sums + o * QUAD_ROWS);
        }
        for (size_t r = 0; r < QUAD_ROWS && begin + r < n_rows; r += 16) {
            __m512i v[16];
            UNROLL
            for (size_t o = 0; o < 16; o++)
                v[o] = _mm512_load_si512(sums + o * QUAD_ROWS + r);
            transpose(v);
            const size_t here = smaller(16, n_rows - begin - r);
            int32_t *to = (int32_t *)out + (begin + r) * stride + first;
            if (stage->kind == DEQUANTIZED) {
                UNROLL
                for (size_t i = 0; i < 16; i++)
                    v[i] = _mm512_castps_si512(_mm512_add_ps(
                        _mm512_mul_ps(_mm512_cvtepi32_ps(v[i]), scale), offset));
            }
            UNROLL
            for (size_t i = 0; i < 16; i++)
                if (i < here)
                    _mm512_mask_storeu_epi32(to + i * stride, some, v[i]);
        }
    }
}
