// Moves items through an accelerator's streams, cycle by cycle: a testbench compiled with the model
// that Verilator makes of the top module (class Vtop). `sim.transfers` writes what it reads and
// reads what it writes; `sim/benches/transfers.py` does the same with cocotb.
//
//   Vtop FOLDER [+verilator+...]
//
// Read from FOLDER (every item is little-endian and fills whole bytes):
//   plan.txt         widths in bits of program_address, program_data, i_data and o_data; cycles
//                    without any transfer that mean "stuck"; cycles to watch after the last
//                    transfer; how many output transfers are due; then one line per segment:
//                    stream (0 program, 1 input), items, segments of the other stream and output
//                    transfers that come before, cycles to wait after them
//   program.bin, input.bin        items of the two streams (program: address, then data)
//   *_stalls.bin                  a byte per cycle, 1 where the testbench pauses; used over and over
// Written there:
//   output.bin       o_data of every output transfer
//   marks.bin        int64 per output transfer: cycle, cycles it was offered in vain, index, last
//   segments.bin     int64 per segment, the program's first: cycle at which it could start, cycles
//                    of its first and of its last transfer, cycles it was offered in vain
//
// Cycle 0 is the rising edge after which rst_ni is 1. Ports are read before an edge and written
// after it, while the clock is still high, as registers outside would do.
//
// Ends with status 1 and a line "error: ..." where the device breaks a rule of its streams (see
// sim/streams.py) or stops moving.

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "items are copied as they lie in memory");

namespace {

using Bytes = std::vector<unsigned char>;

[[noreturn]] void fail(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::printf("error: ");
    std::vprintf(format, arguments);
    std::printf("\n");
    va_end(arguments);
    std::fflush(stdout);
    std::_Exit(1);
}

std::FILE* open_file(const std::string& path, const char* mode) {
    std::FILE* const file = std::fopen(path.c_str(), mode);
    if (!file) fail("%s must be a file that can be opened", path.c_str());
    return file;
}

Bytes read_file(const std::string& path) {
    std::FILE* const file = open_file(path, "rb");
    std::fseek(file, 0, SEEK_END);
    Bytes bytes(static_cast<std::size_t>(std::ftell(file)));
    std::rewind(file);
    if (std::fread(bytes.data(), 1, bytes.size(), file) != bytes.size())
        fail("%s must be readable", path.c_str());
    std::fclose(file);
    return bytes;
}

void write_file(const std::string& path, const void* data, std::size_t size) {
    std::FILE* const file = open_file(path, "wb");
    if (std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0)
        fail("%s must be writable", path.c_str());
}

// A port's words, whatever type Verilator gives it: an integer up to 64 bits, else VlWide.
template <typename Port>
void* words_of(Port& port) {
    return &port;
}
template <std::size_t N>
void* words_of(VlWide<N>& port) {
    return port.data();
}

template <typename Port>
void put(Port& port, const unsigned char* item, std::size_t size) {
    std::memcpy(words_of(port), item, size);  // what lies above stays 0, as it is at the start
}

template <typename Port>
void get(Port& port, unsigned char* item, std::size_t size) {
    std::memcpy(item, words_of(port), size);
}

// The port o_index is there only when a row group's results take several transfers.
template <typename Model>
auto index_of(Model& model, int) -> decltype(std::int64_t{model.o_index}) {
    return model.o_index;
}
template <typename Model>
std::int64_t index_of(Model&, long) {
    return 0;
}

std::size_t bytes_of(long bits) { return static_cast<std::size_t>(bits + 7) / 8; }

void append_ones(Bytes& item, long bits) {
    for (; bits > 0; bits -= 8) item.push_back(bits < 8 ? (1u << bits) - 1 : 0xff);
}

class Stalls {
public:
    explicit Stalls(const std::string& path)
        : bytes(read_file(path)) {}
    bool next() {
        const bool stall = bytes[at];
        if (++at == bytes.size()) at = 0;
        return stall;
    }

private:
    Bytes bytes;
    std::size_t at = 0;
};

struct Segment {
    std::int64_t items, after_segments, after_results, gap;
};

struct Report {
    std::int64_t start = 0, first = 0, last = 0, stalls = 0;
};

// Sends the items of its segments, one after the other; see StreamDriver in sim/streams.py.
class Source {
public:
    Source(const std::string& path, std::size_t item_bytes, Bytes nothing)
        : items(read_file(path + ".bin")), pause(path + "_stalls.bin"), idle(std::move(nothing)),
          size(item_bytes) {}

    void add(const Segment& segment) { segments.push_back(segment); }

    void check() const {
        std::int64_t total = 0;
        for (const Segment& segment : segments) total += segment.items;
        if (items.size() != static_cast<std::size_t>(total) * size)
            fail("%lld items of %zu bytes must lie in the file, not %zu bytes",
                 static_cast<long long>(total), size, items.size());
    }

    // What was offered at an edge; true where it moved.
    bool edge(bool ready, std::int64_t cycle) {
        if (!offering) return false;
        Report& report = reports.back();
        if (!ready) {
            ++report.stalls;
            return false;
        }
        if (moved == 0) report.first = cycle;
        report.last = cycle;
        at += size;
        offering = false;
        if (++moved == segments[done].items) {
            ++done;
            moved = 0;
            running = false;
            waited = 0;
        }
        return true;
    }

    // What to offer at the next edge: nothing, or `item()`.
    void decide(std::int64_t done_by_other, std::int64_t n_results, std::int64_t cycle) {
        if (offering || finished()) return;
        if (!running) {
            const Segment& segment = segments[done];
            if (waited == 0
                && (done_by_other < segment.after_segments || n_results < segment.after_results))
                return;
            if (waited++ < segment.gap) return;
            running = true;
            reports.emplace_back();
            reports.back().start = cycle;
        }
        offering = !pause.next();
    }

    bool finished() const { return done == static_cast<std::int64_t>(segments.size()); }
    const unsigned char* item() const { return offering ? &items[at] : idle.data(); }

    std::int64_t done = 0;  // segments
    bool offering = false;
    std::vector<Report> reports;

private:
    Bytes items;
    Stalls pause;
    Bytes idle;
    std::size_t size, at = 0;
    std::vector<Segment> segments;
    std::int64_t moved = 0, waited = 0;
    bool running = false;
};

// Takes the results and checks the rules of the stream; see StreamMonitor in sim/streams.py.
class Sink {
public:
    Sink(const std::string& path, std::size_t item_bytes)
        : wait(path + "_stalls.bin"), size(item_bytes), item(item_bytes), pending(item_bytes) {}

    // True where a result moved.
    bool edge(Vtop& top, std::int64_t cycle) {
        if (!top.o_valid) {
            if (offered) fail("o: valid must stay until the item is taken (cycle %lld)",
                              static_cast<long long>(cycle));
            return false;
        }
        get(top.o_data, item.data(), size);
        const std::int64_t index = index_of(top, 0), last = top.o_last;
        if (offered && (item != pending || index != pending_index || last != pending_last))
            fail("o: the payload must stay until it is taken (cycle %lld)",
                 static_cast<long long>(cycle));
        offered = !ready;
        if (!ready) {
            pending = item;
            pending_index = index;
            pending_last = last;
            ++stalls;
            return false;
        }
        data.insert(data.end(), item.begin(), item.end());
        for (const std::int64_t mark : {cycle, stalls, index, last}) marks.push_back(mark);
        stalls = 0;
        ++count;
        return true;
    }

    void decide() { ready = !wait.next(); }

    bool ready = false;
    std::int64_t count = 0;
    Bytes data;
    std::vector<std::int64_t> marks;

private:
    Stalls wait;
    std::size_t size;
    Bytes item, pending;
    std::int64_t pending_index = 0, pending_last = 0, stalls = 0;
    bool offered = false;
};

std::int64_t number(std::FILE* file) {
    long long value;
    if (std::fscanf(file, "%lld", &value) != 1) fail("plan.txt must hold whole numbers");
    return value;
}

}  // namespace

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    if (argc < 2) fail("a folder must be given");
    const std::string folder = std::string(argv[1]) + "/";

    std::FILE* const plan = open_file(folder + "plan.txt", "r");
    const long address_bits = number(plan), word_bits = number(plan), row_bits = number(plan),
               result_bits = number(plan);
    const std::int64_t stuck_cycles = number(plan), drain_cycles = number(plan),
                       n_due = number(plan), n_segments = number(plan);
    Bytes no_word, no_row;
    append_ones(no_word, address_bits);
    append_ones(no_word, word_bits);
    append_ones(no_row, row_bits);
    const std::size_t address_size = bytes_of(address_bits), word_size = bytes_of(word_bits);
    Source words(folder + "program", address_size + word_size, no_word);
    Source rows(folder + "input", bytes_of(row_bits), no_row);
    Sink results(folder + "output", bytes_of(result_bits));
    for (std::int64_t k = 0; k < n_segments; ++k) {
        const bool is_input = number(plan);
        Segment segment{};
        segment.items = number(plan);
        segment.after_segments = number(plan);
        segment.after_results = number(plan);
        segment.gap = number(plan);
        (is_input ? rows : words).add(segment);
    }
    std::fclose(plan);
    words.check();
    rows.check();

    Vtop top{""};
    const auto drive = [&] {
        top.program_valid = words.offering;
        put(top.program_address, words.item(), address_size);
        put(top.program_data, words.item() + address_size, word_size);
        top.i_valid = rows.offering;
        put(top.i_data, rows.item(), bytes_of(row_bits));
        top.o_ready = results.ready;
    };
    const auto clock = [&](bool level) {
        top.clk_i = level;
        top.eval();
    };

    top.rst_ni = 0;
    drive();
    clock(false);
    for (int k = 0; k < 3; ++k) {
        if (k > 0) clock(false);
        clock(true);
    }
    top.rst_ni = 1;
    std::int64_t idle = 0, ending = 0;
    for (std::int64_t cycle = 0; ending <= drain_cycles; ++cycle) {
        if (cycle > 0) {
            clock(false);
            const bool received = results.edge(top, cycle);
            const bool wrote = words.edge(top.program_ready, cycle);
            const bool sent = rows.edge(top.i_ready, cycle);
            idle = received || wrote || sent ? 0 : idle + 1;
            if (idle > stuck_cycles)
                fail("%lld results must come out, but after %lld nothing moved for %lld cycles",
                     static_cast<long long>(n_due), static_cast<long long>(results.count),
                     static_cast<long long>(idle));
            clock(true);
        }
        const std::int64_t written = words.done, entered = rows.done;
        words.decide(entered, results.count, cycle);
        rows.decide(written, results.count, cycle);
        results.decide();
        drive();
        top.eval();
        if (words.finished() && rows.finished() && results.count >= n_due) ++ending;
    }
    top.final();

    write_file(folder + "output.bin", results.data.data(), results.data.size());
    write_file(folder + "marks.bin", results.marks.data(), 8 * results.marks.size());
    words.reports.insert(words.reports.end(), rows.reports.begin(), rows.reports.end());
    write_file(folder + "segments.bin", words.reports.data(), sizeof(Report) * words.reports.size());
    return 0;
}
