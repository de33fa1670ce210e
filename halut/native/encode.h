/* Encoding for one variant and one type of values (KIND, TYPE); included by variant.h.
 *
 * Along rows, a vector holds neighbouring codebooks of one row, whose values are gathered. Along
 * columns, it holds neighbouring rows of one codebook, whose values lie side by side.
 */
#define TYPED(stem) JOIN(JOIN(stem, KIND), VARIANT)

/* Codes of a few rows; whether a value was NaN. */
TARGET INLINE int TYPED(walk_rows)(const Trees *trees, const TYPE *rows, size_t n_rows,
                                   uint8_t *restrict codes, const size_t top, const int deep)
{
    const size_t width = trees->padded;
    MASK unordered = NO_MASK;
    for (size_t c = 0; c < width; c += LANES)
        for (size_t r = 0; r < n_rows; r++) {
            const TYPE *row = rows + (ptrdiff_t)r * trees->row_stride;
            const float *t = trees->by_node + c;
            MASK m[TOP];
            VF x[TOP];
            VI node = ALL_I(0);
            UNROLL
            for (size_t level = 0; level < top; level++) {
                x[level] = GATHER_X(row, LOAD_I(trees->places + level * width + c));
#define NODE(n) LOAD_F(t + (n) * width)
#define NODE_BELOW(first) GATHER(t + (first) * width, NODE_INDEX(node, width))
                m[level] = GREATER(x[level], REACHED(level));
                if (deep || !CODES_FROM_MASKS)
                    node = NEXT_NODE(node, m[level]);
                if (MAY_BE_NAN && (level % 2 || level + 1 == top))
                    unordered = EITHER(unordered, UNORDERED(x[level], x[level - level % 2]));
            }
            for (size_t level = top; deep && level < trees->depth; level++) {
                const VF value = GATHER_X(row, LOAD_I(trees->places + level * width + c));
                node = NEXT_NODE(node, GREATER(value, NODE_BELOW(((size_t)1 << level) - 1)));
                if (MAY_BE_NAN)
                    unordered = EITHER(unordered, UNORDERED(value, value));
            }
#undef NODE
#undef NODE_BELOW
            uint8_t code[LANES < 4 ? 4 : LANES];
            if (deep || !CODES_FROM_MASKS)
                STORE_CODES(code, node);
            else
                STORE_MASKS(code, m, top);
            if (LANES < 4)
                codes[c / 4 * ROWS * 4 + r * 4 + c % 4] = (uint8_t)(code[0] | trees->place[c % 4]);
            else
                UNROLL
                for (size_t i = 0; i < LANES; i += 4) {
                    uint32_t word;
                    memcpy(&word, code + i, 4);
                    word |= trees->place_word;
                    memcpy(codes + ((c + i) / 4 * ROWS + r) * 4, &word, 4);
                }
        }
    return ANY(unordered);
}

/* Codes of LANES rows from a level's values each. */
TARGET INLINE VI TYPED(walk_values)(const TYPE *const *from, const float *t, const size_t depth,
                                    const size_t top, const int deep, MASK *unordered)
{
    MASK m[TOP];
    VF x[TOP];
    VI node = ALL_I(0);
    UNROLL
    for (size_t level = 0; level < top; level++) {
        x[level] = LOAD_X(from[level]);
#define NODE(n) ALL_F(t[n])
#define NODE_BELOW(first) GATHER(t + (first), node)
        m[level] = GREATER(x[level], REACHED(level));
        if (deep || !CODES_FROM_MASKS)
            node = NEXT_NODE(node, m[level]);
        if (MAY_BE_NAN && (level % 2 || level + 1 == top))
            *unordered = EITHER(*unordered, UNORDERED(x[level], x[level - level % 2]));
    }
    for (size_t level = top; deep && level < depth; level++) {
        const VF value = LOAD_X(from[level]);
        node = NEXT_NODE(node, GREATER(value, NODE_BELOW(((size_t)1 << level) - 1)));
        if (MAY_BE_NAN)
            *unordered = EITHER(*unordered, UNORDERED(value, value));
    }
#undef NODE
#undef NODE_BELOW
    return deep || !CODES_FROM_MASKS ? node : CODE_OF_MASKS(m, top);
}

TARGET INLINE int TYPED(walk_columns)(const Trees *trees, const TYPE *rows, size_t n_rows,
                                      uint8_t *restrict codes, const size_t top, const int deep)
{
    const size_t depth = deep ? trees->depth : top;
    MASK unordered = NO_MASK;
    for (size_t c = 0; c < trees->n_codebooks; c++) {
        const float *t = trees->by_codebook + c * (((size_t)1 << depth) - 1);
        int32_t *words = (int32_t *)(void *)codes + c / 4 * ROWS;
        const int shift = (int)(c % 4 * 8);
        const TYPE *columns[8], *from[8];
        TYPE edge[8][LANES];
        for (size_t level = 0; level < depth; level++)
            columns[level] = rows + trees->places[level * trees->padded + c];
        for (size_t r = 0; r < n_rows; r += LANES) {
            for (size_t level = 0; level < depth; level++)
                from[level] = columns[level] + r;
            if (LANES > 1 && n_rows - r < LANES)
                for (size_t level = 0; level < depth; level++) {
                    memset(edge[level], 0, sizeof edge[level]);
                    memcpy(edge[level], from[level], (n_rows - r) * sizeof(TYPE));
                    from[level] = edge[level];
                }
            const VI found = TYPED(walk_values)(from, t, depth, top, deep, &unordered);
            const VI code = SHIFT_I(found, shift);
            const VI word = c % 4 ? LOAD_I(words + r) : ALL_I((int32_t)trees->place_word);
            STORE_I(words + r, OR_I(word, code));
        }
    }
    return ANY(unordered);
}

/* Codes (quads, ROWS, 4) of rows; whether a value was NaN. */
TARGET static int TYPED(encode)(const Trees *trees, const void *values, size_t n_rows,
                                uint8_t *codes)
{
    const TYPE *rows = values;
    if (trees->row_stride == 1) {
        switch (trees->depth) {
        case 1: return TYPED(walk_columns)(trees, rows, n_rows, codes, 1, 0);
        case 2: return TYPED(walk_columns)(trees, rows, n_rows, codes, 2, 0);
        case 3: return TYPED(walk_columns)(trees, rows, n_rows, codes, 3, 0);
        case 4: return TYPED(walk_columns)(trees, rows, n_rows, codes, 4, 0);
        default: return TYPED(walk_columns)(trees, rows, n_rows, codes, TOP, 1);
        }
    }
    int unordered = 0;
    for (size_t r = 0; r < n_rows; r += NEAR_ROWS) {
        const size_t n = smaller(NEAR_ROWS, n_rows - r);
        const TYPE *near = rows + (ptrdiff_t)r * trees->row_stride;
        uint8_t *to = codes + r * 4;
        switch (trees->depth) {
        case 1: unordered |= TYPED(walk_rows)(trees, near, n, to, 1, 0); break;
        case 2: unordered |= TYPED(walk_rows)(trees, near, n, to, 2, 0); break;
        case 3: unordered |= TYPED(walk_rows)(trees, near, n, to, 3, 0); break;
        case 4: unordered |= TYPED(walk_rows)(trees, near, n, to, 4, 0); break;
        default: unordered |= TYPED(walk_rows)(trees, near, n, to, TOP, 1); break;
        }
    }
    return unordered;
}

#undef TYPED
#undef KIND
#undef TYPE
#undef LOAD_X
#undef GATHER_X
#undef MAY_BE_NAN
