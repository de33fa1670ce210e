// Runs the system of a board until a LED says that its firmware ended.
//
//   Vtop LONGEST_CYCLES CYCLES_PER_BIT
//
// Prints what comes over the serial line (8 bits, no parity, one stop bit). Ends with 0 when the second
// LED is lit, with 1 when the third is, or with a line "error: ..." after LONGEST_CYCLES.

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    Vtop top{&context};
    if (argc < 3) return 2;
    const std::uint64_t longest = std::strtoull(argv[1], nullptr, 0);
    const double per_bit = std::strtod(argv[2], nullptr);
    std::uint64_t start = 0;  // cycle of a start bit
    int bits = -1;            // of a character that were read; -1: the line is idle
    unsigned character = 0;
    for (std::uint64_t cycle = 0; cycle < longest; ++cycle) {
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        if (bits < 0 && cycle > 100 && !top.serial_tx) {
            bits = 0;
            start = cycle;
            character = 0;
        } else if (bits >= 0 && static_cast<double>(cycle - start) >= (bits + 1.5) * per_bit) {
            if (bits < 8) {
                character |= static_cast<unsigned>(top.serial_tx) << bits++;
            } else {
                if (!top.serial_tx) {
                    std::printf("error: a character must end with a stop bit\n");
                    return 1;
                }
                std::putchar(static_cast<int>(character));
                bits = -1;
            }
        }
        if (bits < 0 && (top.leds & 6) != 0) {
            std::fflush(stdout);
            return (top.leds & 4) != 0;
        }
    }
    std::printf("error: firmware must end within %" PRIu64 " cycles\n", longest);
    return 1;
}
