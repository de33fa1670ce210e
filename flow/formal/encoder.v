// An encoder's codes are those of the tree, for every input and all thresholds.
//
// From any state, thresholds are written as a program would. As soon as it may after them, one
// transfer walks the tree with others, which do anything, before and behind it, while other groups
// are written. Nothing stalls here; that nothing moves without an enable is proved apart. The
// comparison is that of the number format, made of sign, exponent and mantissa. A level may compare
// the sum of several words, or a word of a window.
module proof #(
  parameter W = 8,          // bits of a value
  parameter MANTISSA = 0,   // bits of the mantissa; 0: signed integers
  parameter INFINITE = 1,   // whether the largest exponent stands for infinity and NaN
  parameter T = 2,          // tree levels
  parameter ROWS = 1,
  parameter G = 4,          // stored codebook groups
  parameter GBITS = 2,
  parameter CYCLES = 3,     // from a transfer to its codes
  parameter PER_STAGE = 1,  // tree levels per stage
  parameter FIRST_STAGE = 0,  // that fetches, or reads, the root's threshold
  parameter PER_WORD = 3,   // thresholds in a program word
  parameter S = W,          // bits of a threshold: of a sum of TERMS words
  parameter TERMS = 1,      // words that a level adds up
  parameter WINDOW = 0,     // words of a codebook's window; 0: a level has its TERMS words
  parameter NODE = 0,       // whether each node has a place in the window, or each level
  parameter PLACE = 1,      // bits of a place
  parameter BEHIND = 0,     // nodes behind the thresholds: signs of terms, or places of levels
  parameter WORDS = 1,      // program words of a codebook
  parameter WBITS = 1,      // bits of a word's number
  parameter LATE = 1,       // latches take the data a cycle after the enable
  parameter LINES = 1       // codes are one line per prototype, not binary
) (
  input clk, input [7:0] twin,
  input [ROWS*(WINDOW ? WINDOW : T*TERMS)*W-1:0] words,
  input [CYCLES-1:0] other_enable,
  input [T*GBITS-1:0] other_group,
  input other_write, input [GBITS-1:0] other_write_group, input [WBITS-1:0] other_word,
  input [PER_WORD*(NODE ? S + PLACE : S)-1:0] other_data,
  output bad_codes, output bad_special
);
  localparam K = 1 << T;
  localparam VALUES = WINDOW ? WINDOW : T*TERMS;
  localparam NODE_BITS = NODE ? S + PLACE : S;
  localparam BITS = BEHIND*S > T*PLACE ? BEHIND*S : T*PLACE;
  localparam TAKE = WORDS + 1 + LATE;  // as soon as control lets a transfer in
  localparam CODE = LINES ? K : T;

  reg [7:0] cycle = 0;
  always @(posedge clk) if (cycle != 255) cycle <= cycle + 1;

  // Anything, but the same in all cycles.
  reg [(K-1)*S-1:0] thresholds;   // in the number format
  reg [(K-1)*PLACE-1:0] places;   // of nodes
  reg [BITS-1:0] behind;          // signs, or places of levels
  reg [GBITS-1:0] group;
  reg [7:0] last;                 // word that is written last
  reg [T-1:0] phase;
  reg [ROWS*VALUES*W-1:0] values;
  always @(posedge clk) begin
    thresholds <= thresholds;
    places <= places;
    behind <= behind;
    group <= group;
    last <= last;
    phase <= {phase, phase[T-1]};
    if (cycle == TAKE) values <= words;
  end
  wire sane = group < G & last < WORDS & (phase & (phase - 1)) == 0 & phase != 0 & ~|threshold_nan
    & ~|outside;

  // Numbers.
  function is_nan(input [S-1:0] x);
    if (MANTISSA == 0) is_nan = 0;
    else if (INFINITE) is_nan = &x[W-2:MANTISSA] & |x[(MANTISSA ? MANTISSA-1 : 0):0];
    else is_nan = &x[W-2:0];
  endfunction
  function greater(input [S-1:0] x, input [S-1:0] y);
    if (MANTISSA == 0) greater = $signed(x) > $signed(y);
    else if (is_nan(x)) greater = 0;
    else if (x[W-2:0] == 0 & y[W-2:0] == 0) greater = 0;
    else if (x[W-1] != y[W-1]) greater = y[W-1];
    else greater = x[W-1] ? x[W-2:0] < y[W-2:0] : x[W-2:0] > y[W-2:0];
  endfunction
  // A threshold as it is stored: -0 as +0, the magnitude of negative ones complemented.
  function [S-1:0] key(input [S-1:0] y);
    if (MANTISSA == 0) key = y;
    else if (y[W-2:0] == 0) key = 0;
    else key = y ^ {1'b0, {(W-1){y[W-1]}}};
  endfunction

  wire [K-2:0] threshold_nan;
  wire [K-2:0] outside;  // of the window
  wire [WORDS*PER_WORD*NODE_BITS-1:0] keys;
  genvar i, r;
  generate for (i = 0; i < WORDS*PER_WORD; i = i + 1) begin : nodes
    if (i < K - 1) begin
      assign threshold_nan[i] = is_nan(thresholds[i*S +: S]);
      assign keys[i*NODE_BITS +: S] = key(thresholds[i*S +: S]);
      if (NODE) assign keys[i*NODE_BITS + S +: PLACE] = places[i*PLACE +: PLACE];
      if (NODE) assign outside[i] = places[i*PLACE +: PLACE] >= WINDOW;
      else if (WINDOW && i < T) assign outside[i] = behind[i*PLACE +: PLACE] >= WINDOW;
      else assign outside[i] = 0;
    end else if (i < K - 1 + BEHIND) assign keys[i*S +: S] = behind[(i - K + 1)*S +: S];
    else assign keys[i*NODE_BITS +: NODE_BITS] = other_data[(i % PER_WORD)*NODE_BITS +: NODE_BITS];
  end endgenerate

  // Writing: the words of the group, one of them wrong, then that one, then words of other groups.
  wire [7:0] data_cycle = LATE ? cycle - 1 : cycle;
  wire writing = cycle <= WORDS;
  wire disturb = cycle > WORDS & other_write & other_write_group != group & other_write_group < G;
  wire write_enable = writing | disturb;
  wire [GBITS-1:0] write_group = writing ? group : other_write_group;
  wire [WBITS-1:0] write_word = cycle == WORDS ? last : writing ? cycle : other_word;
  reg [PER_WORD*NODE_BITS-1:0] write_data;
  integer word;
  always @* begin
    write_data = other_data;
    for (word = 0; word < WORDS; word = word + 1)
      if (last == word ? data_cycle == WORDS : data_cycle == word)
        write_data = keys[word*PER_WORD*NODE_BITS +: PER_WORD*NODE_BITS];
  end

  // The transfer is in stage s in cycle TAKE + s.
  wire [CYCLES-1:0] enable, here;
  generate for (i = 0; i < CYCLES; i = i + 1) begin : stages
    assign here[i] = cycle == TAKE + i;
    assign enable[i] = here[i] | other_enable[i];
  end endgenerate
  wire [T*GBITS-1:0] groups;
  generate for (i = 0; i < T; i = i + 1) begin : levels
    assign groups[i*GBITS +: GBITS] =
      here[i / PER_STAGE + FIRST_STAGE] ? group : other_group[i*GBITS +: GBITS];
  end endgenerate

  wire [ROWS*CODE-1:0] codes;
  `DUT dut (
    .clk_i(clk),
    .words(words), .enable(enable), .codes(codes),
`ifdef INTERLEAVED
    .phase(phase),
`endif
`ifdef GROUPS
    .group(groups), .write_group(write_group),
`endif
`ifdef WORD
    .write_word(write_word),
`endif
    .write_enable(write_enable), .write_data(write_data)
  );

  // The tree.
  wire [ROWS-1:0] wrong, special;
  generate for (r = 0; r < ROWS; r = r + 1) begin : rows
    reg [T-1:0] code;
    reg odd;
    reg [S-1:0] value, threshold;
    reg [W-1:0] term;
    reg [PLACE-1:0] place;
    integer level, node, number;
    always @* begin
      code = 0;
      odd = 0;
      for (level = 0; level < T; level = level + 1) begin
        threshold = 0;
        place = behind[level*PLACE +: PLACE];
        for (node = 0; node < (1 << level); node = node + 1)
          if (code == node) begin
            threshold = thresholds[((1 << level) - 1 + node)*S +: S];
            if (NODE) place = places[((1 << level) - 1 + node)*PLACE +: PLACE];
          end
        value = 0;
        if (WINDOW) begin
          for (number = 0; number < WINDOW; number = number + 1)
            if (place == number) value = values[(r*VALUES + number)*W +: W];
        end else if (TERMS == 1) value = values[(r*VALUES + level)*W +: W];
        else
          for (number = 0; number < TERMS; number = number + 1) begin
            term = values[(r*VALUES + level*TERMS + number)*W +: W];
            if (behind[level*TERMS + number]) term = ~term;
            value = value + {{(S-W+1){term[W-1]}}, term[W-2:0]};
          end
        odd = odd | (MANTISSA != 0 & (is_nan(value) | value == {1'b1, {(W-1){1'b0}}}));
        code = {code, twin == 1 ? ~greater(threshold, value)
                    : twin == 2 ? greater(value, threshold) | is_nan(value)
                    : greater(value, threshold)};
      end
    end
    wire [CODE-1:0] want = LINES ? 1 << code : code;
    assign special[r] = odd;
    assign wrong[r] = codes[r*CODE +: CODE] != want;
  end endgenerate
  wire done = cycle == TAKE + CYCLES & sane;
  assign bad_codes = done & |(wrong & ~special);
  assign bad_special = done & |(wrong & special);
endmodule
