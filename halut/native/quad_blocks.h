/* Blocks of rows by quads: encode columns of floats, columns and rows of bytes, and look up; for
 * AVX-512 with VBMI and VNNI. Included by kernels.c.
 */

/* Sixteen bytes in each of the four lanes. */
TARGET_QUADS INLINE __m512i all_lanes(const int8_t *bytes)
{
    return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)bytes));
}

/* ---- columns: neighbouring rows of one codebook */
TARGET_QUADS INLINE int float_columns(const Trees *trees, const float *rows, size_t n_rows,
                                      uint32_t *words, const size_t depth)
{
    const __m512i place = _mm512_set1_epi32((int32_t)trees->place_word);
    const size_t whole = n_rows / 16 * 16, rest = n_rows - whole;
    __mmask16 ordered[QUAD] = {0xffff, 0xffff, 0xffff, 0xffff};
    for (size_t c = 0; c < round_up(trees->n_codebooks, QUAD); c += QUAD, words += ROWS) {
        const float *features[QUAD][QUAD_DEPTH], *levels[QUAD];
        float ends[QUAD][QUAD_DEPTH][16];
        for (size_t j = 0; j < QUAD; j++) {
            levels[j] = trees->levels + (c + j) * QUAD_DEPTH * LEVEL;
            for (size_t level = 0; level < depth; level++)
                features[j][level] = rows + trees->places[level * trees->padded + c + j];
        }
        encode_quad((const float *const (*)[QUAD_DEPTH])features, levels, depth, whole, place,
                    ordered, words);
        if (!rest)
            continue;
        for (size_t j = 0; j < QUAD; j++)
            for (size_t level = 0; level < depth; level++) {
                _mm512_storeu_ps(ends[j][level],
                                 _mm512_maskz_loadu_ps((__mmask16)((1U << rest) - 1),
                                                       features[j][level] + whole));
                features[j][level] = ends[j][level];
            }
        encode_quad((const float *const (*)[QUAD_DEPTH])features, levels, depth, 16, place,
                    ordered, words + whole);
    }
    return (ordered[0] & ordered[1] & ordered[2] & ordered[3]) != 0xffff;
}

/* Codes of 64 rows of one codebook; `some` are read. */
TARGET_QUADS INLINE __m512i byte_codes(const int8_t *const *features, const int8_t *levels,
                                       const size_t depth, size_t r, __mmask64 some)
{
    __m512i code = _mm512_setzero_si512();
    UNROLL
    for (size_t level = 0; level < depth; level++) {
        const __m512i x = _mm512_maskz_loadu_epi8(some, features[level] + r);
        const __m512i reached = _mm512_shuffle_epi8(all_lanes(levels + level * LEVEL), code);
        const __mmask64 right = _mm512_cmpgt_epi8_mask(x, reached);
        const __m512i bit = _mm512_set1_epi8((char)(1 << (depth - 1 - level)));
        code = level ? _mm512_mask_add_epi8(code, right, code, bit)
                     : _mm512_maskz_mov_epi8(right, bit);
    }
    return code;
}

TARGET_QUADS INLINE void byte_columns(const Trees *trees, const int8_t *rows, size_t n_rows,
                                      uint32_t *words, const size_t depth)
{
    const __m512i place = _mm512_set1_epi32((int32_t)trees->place_word);
    /* So that bytes which four lanes unpack are those of neighbouring rows. */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (size_t c = 0; c < round_up(trees->n_codebooks, QUAD); c += QUAD, words += ROWS) {
        const int8_t *features[QUAD][QUAD_DEPTH];
        for (size_t j = 0; j < QUAD; j++)
            for (size_t level = 0; level < depth; level++)
                features[j][level] = rows + trees->places[level * trees->padded + c + j];
        for (size_t r = 0; r < n_rows; r += 64) {
            const __mmask64 some = ~(__mmask64)0 >> (64 - smaller(64, n_rows - r));
            __m512i code[QUAD], pair[QUAD];
            UNROLL
            for (size_t j = 0; j < QUAD; j++)
                code[j] = _mm512_permutexvar_epi32(
                    order, byte_codes(features[j], trees->byte_levels + (c + j) * QUAD_DEPTH * LEVEL,
                                      depth, r, some));
            pair[0] = _mm512_unpacklo_epi8(code[0], code[1]);
            pair[1] = _mm512_unpackhi_epi8(code[0], code[1]);
            pair[2] = _mm512_unpacklo_epi8(code[2], code[3]);
            pair[3] = _mm512_unpackhi_epi8(code[2], code[3]);
            UNROLL
            for (size_t i = 0; i < 2; i++) {
                _mm512_store_si512(words + r + 32 * i,
                                   _mm512_or_si512(place, _mm512_unpacklo_epi16(pair[i], pair[2 + i])));
                _mm512_store_si512(words + r + 32 * i + 16,
                                   _mm512_or_si512(place, _mm512_unpackhi_epi16(pair[i], pair[2 + i])));
            }
        }
    }
}

/* ---- rows of bytes: neighbouring codebooks, a group of 16, of four rows */

/* What a group looks at in 16 rows, byte 16 * level + codebook of a vector each, from so many
 * vectors of a row; 0: as many as there are, of which the last may be cut off. */
TARGET_QUADS INLINE void pick_bytes(const Pick *pick, const int8_t *rows, size_t n_rows,
                                    ptrdiff_t stride, size_t n_features, __m512i *found,
                                    const size_t n_vectors)
{
    const __m512i where = _mm512_loadu_si512(pick->where);
    __mmask64 from[8];
    UNROLL
    for (size_t v = 0; v < n_vectors; v++)
        from[v] = pick->from[pick->first + v];
    for (size_t r = 0; r < 16; r++) {
        const int8_t *row = rows + (ptrdiff_t)smaller(r, n_rows - 1) * stride;
        if (n_vectors) {
            const int8_t *at = row + pick->first * 64;
            __m512i bytes = _mm512_permutexvar_epi8(where, _mm512_loadu_si512(at));
            UNROLL
            for (size_t v = 1; v < n_vectors; v++)
                bytes = _mm512_mask_permutexvar_epi8(bytes, from[v], where,
                                                     _mm512_loadu_si512(at + v * 64));
            found[r] = bytes;
            continue;
        }
        found[r] = _mm512_setzero_si512();
        for (size_t v = pick->first; v < pick->end; v++) {
            const size_t left = smaller(64, n_features - v * 64);
            found[r] = _mm512_mask_permutexvar_epi8(
                found[r], pick->from[v], where,
                _mm512_maskz_loadu_epi8(~(__mmask64)0 >> (64 - left), row + v * 64));
        }
    }
}

TARGET_QUADS static void pick_rows(const Pick *pick, const int8_t *rows, size_t n_rows,
                                   ptrdiff_t stride, size_t n_features, __m512i *found)
{
#define OF_VECTORS(n) pick_bytes(pick, rows, n_rows, stride, n_features, found, n)
    switch (pick->at_once) {
    case 2: OF_VECTORS(2); break;
    case 4: OF_VECTORS(4); break;
    case 8: OF_VECTORS(8); break;
    default: OF_VECTORS(0); break;
    }
#undef OF_VECTORS
}

/* Four vectors of four lanes, read as columns. */
TARGET_QUADS INLINE void transpose_lanes(__m512i *v)
{
    const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* Codes of 16 codebooks and four rows, from a vector of each level. */
TARGET_QUADS INLINE __m512i walk_bytes(const __m512i *x, const int8_t *nodes, const size_t depth)
{
#define NODE(n) all_lanes(nodes + (n) * GROUP)
#define EITHER_NODE(m, a, b) _mm512_mask_blend_epi8(m, a, b)
    __mmask64 m[QUAD_DEPTH];
    __m512i code;
    m[0] = _mm512_cmpgt_epi8_mask(x[0], NODE(0));
    code = _mm512_maskz_mov_epi8(m[0], _mm512_set1_epi8((char)(1 << (depth - 1))));
    UNROLL
    for (size_t level = 1; level < depth; level++) {
        __m512i node[8];
        const size_t first = ((size_t)1 << level) - 1;
        UNROLL
        for (size_t i = 0; i <= first; i++)
            node[i] = NODE(first + i);
        UNROLL
        for (size_t l = level; l-- > 0;)
            for (size_t i = 0; i < (size_t)1 << l; i++)
                node[i] = EITHER_NODE(m[l], node[2 * i], node[2 * i + 1]);
        m[level] = _mm512_cmpgt_epi8_mask(x[level], node[0]);
        code = _mm512_mask_add_epi8(code, m[level], code,
                                    _mm512_set1_epi8((char)(1 << (depth - 1 - level))));
    }
    return code;
#undef NODE
#undef EITHER_NODE
}

TARGET_QUADS INLINE void byte_rows(const Trees *trees, const int8_t *rows, size_t n_rows,
                                   uint32_t *words, const size_t depth)
{
    const __m512i place = _mm512_set1_epi32((int32_t)trees->place_word);
    for (size_t r = 0; r < n_rows; r += 16)
        for (size_t c = 0; c < trees->padded; c += GROUP) {
            __m512i found[16], code[4], low[4];
            pick_rows(trees->picks + c / GROUP, rows + (ptrdiff_t)r * trees->row_stride, n_rows - r,
                      trees->row_stride, trees->n_features, found);
            UNROLL
            for (size_t i = 0; i < 4; i++) {
                __m512i x[4];
                UNROLL
                for (size_t lane = 0; lane < 4; lane++)
                    x[lane] = found[4 * lane + i];
                transpose_lanes(x);
                code[i] = walk_bytes(x, trees->byte_nodes + c / GROUP * 16 * GROUP, depth);
            }
            /* Lane l of code[i] is row 4 * l + i, its word q the quad c / 4 + q. */
            low[0] = _mm512_unpacklo_epi32(code[0], code[1]);
            low[1] = _mm512_unpackhi_epi32(code[0], code[1]);
            low[2] = _mm512_unpacklo_epi32(code[2], code[3]);
            low[3] = _mm512_unpackhi_epi32(code[2], code[3]);
            code[0] = _mm512_unpacklo_epi64(low[0], low[2]);
            code[1] = _mm512_unpackhi_epi64(low[0], low[2]);
            code[2] = _mm512_unpacklo_epi64(low[1], low[3]);
            code[3] = _mm512_unpackhi_epi64(low[1], low[3]);
            UNROLL
            for (size_t q = 0; q < 4; q++)
                _mm512_store_si512(words + (c / 4 + q) * ROWS + r, _mm512_or_si512(code[q], place));
        }
}

#define BY_DEPTH(call)                                     \
    switch (trees->depth) {                                \
    case 1: call(trees, values, n_rows, words, 1); break;  \
    case 2: call(trees, values, n_rows, words, 2); break;  \
    case 3: call(trees, values, n_rows, words, 3); break;  \
    default: call(trees, values, n_rows, words, 4); break; \
    }

TARGET_QUADS static int encode_f_quads(const Trees *trees, const void *values, size_t n_rows,
                                       uint8_t *codes)
{
    uint32_t *words = (uint32_t *)(void *)codes;
    int unordered = 0;
    if (trees->levels == NULL || trees->row_stride != 1)
        return encode_f_vnni(trees, values, n_rows, codes);
#define COLUMNS(...) unordered = float_columns(__VA_ARGS__)
    BY_DEPTH(COLUMNS)
#undef COLUMNS
    return unordered;
}

TARGET_QUADS static int encode_b_quads(const Trees *trees, const void *values, size_t n_rows,
                                       uint8_t *codes)
{
    uint32_t *words = (uint32_t *)(void *)codes;
    if (trees->byte_levels == NULL)
        return encode_b_vnni(trees, values, n_rows, codes);
    if (trees->row_stride == 1) {
        BY_DEPTH(byte_columns)
    } else {
        BY_DEPTH(byte_rows)
    }
    return 0;
}
#undef BY_DEPTH

/* ---- look up */

/* Sums (QUAD_SLICE, QUAD_ROWS) of 16 rows as what leaves, from their first output on. */
TARGET_QUADS INLINE void store_rows(const Stage *stage, const int32_t *sums, size_t n_rows,
                                    __mmask16 some, __m512 scale, __m512 offset, float *to,
                                    size_t stride)
{
    __m512 v[16];
    UNROLL
    for (size_t o = 0; o < 16; o++)
        v[o] = _mm512_load_ps((const float *)(const void *)sums + o * QUAD_ROWS);
    transpose_16(v);
    if (stage->kind == DEQUANTIZED) {
        UNROLL
        for (size_t i = 0; i < 16; i++)
            v[i] = _mm512_add_ps(
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(v[i])), scale), offset);
    }
    UNROLL
    for (size_t i = 0; i < 16; i++)
        if (i < n_rows)
            _mm512_mask_storeu_ps(to + i * stride, some, v[i]);
}

/* One slice of outputs, `first` and `n` on, for the rows of a block. */
TARGET_QUADS static void look_up_quads(const uint8_t *codes, const int8_t *tables, size_t n_quads,
                                       size_t n_rows, size_t first, size_t n, const Stage *stage,
                                       void *out, size_t stride, Ahead *ahead)
{
    enum { VECTORS = QUAD_ROWS / 16 };
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
            __m512i sum[QUAD_OUTPUTS * VECTORS];
            fetch_ahead(ahead, QUAD_ROWS / QUAD_OUTPUTS);
            add_quads((const uint32_t *)(const void *)codes + begin, ROWS,
                      tables + o * n_quads * 64, n_quads, sum);
            UNROLL
            for (size_t i = 0; i < QUAD_OUTPUTS * VECTORS; i++)
                _mm512_store_si512(sums + o * QUAD_ROWS + 16 * i, sum[i]);
        }
        for (size_t r = 0; r < QUAD_ROWS && begin + r < n_rows; r += 16) {
            float *to = (float *)out + (begin + r) * stride + first;
            store_rows(stage, sums + r, smaller(16, n_rows - begin - r), some, scale, offset, to,
                       stride);
        }
    }
}
