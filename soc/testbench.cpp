// Runs the system until its firmware ends: the clock, what firmware prints, and counters.
//
//   Vtop LONGEST_CYCLES +rom=FILE
//
// Prints what firmware prints, and a line per moment that firmware marks:
//
//   @ NUMBER CYCLE FETCHED FETCH_WAITS READ WRITTEN DATA_WAITS CUSTOM MASTER_READ MASTER_WRITTEN
//
// Words that moved on the processor's two buses so far, cycles in which a bus waited, custom
// instructions, and words that the accelerator moved.
// Ends with firmware's exit status, or with 1 and a line "error: ..." after LONGEST_CYCLES.

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vtop top{&context};
    const std::uint64_t longest = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 0;
    std::uint64_t fetched = 0, fetch_waits = 0, read = 0, written = 0, data_waits = 0, custom = 0;
    std::uint64_t master_read = 0, master_written = 0;
    top.reset = 1;
    for (std::uint64_t cycle = 0; cycle < longest; ++cycle) {
        top.clk = 0;
        top.eval();
        if (cycle == 8) top.reset = 0;
        if (!top.reset) {
            // What the registers hold before the edge.
            fetched += top.fetch_moves;
            fetch_waits += top.fetch_waits;
            written += top.data_writes;
            read += top.data_moves && !top.data_writes;
            data_waits += top.data_waits;
            custom += top.cfu_moves;
            master_read += top.master_reads;
            master_written += top.master_writes;
            if (top.print_valid) std::putchar(top.print_data);
            if (top.mark_valid)
                std::printf("@ %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                            " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                            static_cast<unsigned>(top.mark_data), cycle, fetched, fetch_waits, read,
                            written, data_waits, custom, master_read, master_written);
            if (top.exit_valid) {
                std::fflush(stdout);
                top.final();
                return top.exit_data;
            }
        }
        top.clk = 1;
        top.eval();
    }
    std::printf("error: firmware must end within %" PRIu64 " cycles\n", longest);
    std::fflush(stdout);
    return 1;
}
