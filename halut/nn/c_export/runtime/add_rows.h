/* Adds up rows of tables; included for every type of entries, see halut_layers.c.
 *
 * Eight sums at a time stay in registers. */

static void JOIN(add_rows_, ENTRY_NAME)(const ENTRY *table, const uint32_t *rows, int32_t n_codebooks,
                                        int32_t n_outputs, const halut_stage *stage, int32_t channel,
                                        void *output, int32_t index)
{
    int32_t sums[8];
    int32_t m = 0;
    for (; m + 8 <= n_outputs; m += 8) {
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
        for (int32_t c = 0; c < n_codebooks; ++c) {
            const ENTRY *const row = table + m + rows[c];
            s0 += row[0];
            s1 += row[1];
            s2 += row[2];
            s3 += row[3];
            s4 += row[4];
            s5 += row[5];
            s6 += row[6];
            s7 += row[7];
        }
        sums[0] = s0;
        sums[1] = s1;
        sums[2] = s2;
        sums[3] = s3;
        sums[4] = s4;
        sums[5] = s5;
        sums[6] = s6;
        sums[7] = s7;
        store(stage, sums, 8, channel + m, output, index + m);
    }
    for (; m + 2 <= n_outputs; m += 2) {
        int32_t s0 = 0, s1 = 0;
        for (int32_t c = 0; c < n_codebooks; ++c) {
            const ENTRY *const row = table + m + rows[c];
            s0 += row[0];
            s1 += row[1];
        }
        sums[0] = s0;
        sums[1] = s1;
        store(stage, sums, 2, channel + m, output, index + m);
    }
    if (m < n_outputs) {
        sums[0] = 0;
        for (int32_t c = 0; c < n_codebooks; ++c)
            sums[0] += table[(uint32_t)m + rows[c]];
        store(stage, sums, 1, channel + m, output, index + m);
    }
}
