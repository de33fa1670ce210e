/* Adds up rows of tables; included for every type of entries, see halut.c.
 *
 * Eight sums at a time stay in registers. */

static void JOIN(add_rows_, ENTRY_NAME)(const ENTRY *table, const uint32_t *rows, int32_t n_codebooks,
                                        int32_t n_outputs, const halut_stage *stage, int32_t channel,
                                        void *output, int32_t index)
{
    int32_t m = 0;
    for (; m + 8 <= n_outputs; m += 8) {
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
        const ENTRY *const column = table + m;
        for (int32_t c = 0; c < n_codebooks; ++c) {
            const ENTRY *const row = column + rows[c];
            s0 += row[0];
            s1 += row[1];
            s2 += row[2];
            s3 += row[3];
            s4 += row[4];
            s5 += row[5];
            s6 += row[6];
            s7 += row[7];
        }
        store(stage, s0, channel + m, output, index + m);
        store(stage, s1, channel + m + 1, output, index + m + 1);
        store(stage, s2, channel + m + 2, output, index + m + 2);
        store(stage, s3, channel + m + 3, output, index + m + 3);
        store(stage, s4, channel + m + 4, output, index + m + 4);
        store(stage, s5, channel + m + 5, output, index + m + 5);
        store(stage, s6, channel + m + 6, output, index + m + 6);
        store(stage, s7, channel + m + 7, output, index + m + 7);
    }
    for (; m + 2 <= n_outputs; m += 2) {
        int32_t s0 = 0, s1 = 0;
        for (int32_t c = 0; c < n_codebooks; ++c) {
            const ENTRY *const row = table + m + rows[c];
            s0 += row[0];
            s1 += row[1];
        }
        store(stage, s0, channel + m, output, index + m);
        store(stage, s1, channel + m + 1, output, index + m + 1);
    }
    if (m < n_outputs) {
        int32_t sum = 0;
        for (int32_t c = 0; c < n_codebooks; ++c)
            sum += table[(uint32_t)m + rows[c]];
        store(stage, sum, channel + m, output, index + m);
    }
}
