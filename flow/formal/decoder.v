// A decoder block's sums are the exact sums of table entries, whatever the tables and the codes.
//
// From any state, tables are written as a program would, one of their words wrong at first. A row
// group's steps follow as soon as they may; the sums are compared as whole numbers, so nothing has
// overflowed.
module proof #(
  parameter C = 4, parameter K = 2, parameter Q = 1, parameter ROWS = 1, parameter UNITS = 1,
  parameter BITS = 4,       // of an entry
  parameter ACC = 6,        // of a sum
  parameter SUM_STAGES = 1,
  parameter AHEAD = 0,      // cycles that codes come before their look-up
  parameter BINARY = 0,     // codes are numbers, not lines
  parameter T = 1, parameter CBITS = 2,
  parameter LATE = 1        // latches take the data a cycle after the enable
) (
  input clk, input [7:0] twin, output bad_sums
);
  localparam G = C / Q;
  localparam WRITES = C * K;
  localparam TAKE = WRITES + 1 + LATE;

  reg [7:0] cycle = 0;
  always @(posedge clk) if (cycle != 255) cycle <= cycle + 1;

  // Anything, but the same in all cycles: entry (codebook, prototype, unit), code (row, codebook).
  reg [WRITES*UNITS*BITS-1:0] tables;
  reg [ROWS*C*T-1:0] codes;
  reg [7:0] last;  // word that is written last
  always @(posedge clk) begin tables <= tables; codes <= codes; last <= last; end

  wire [7:0] word = cycle == WRITES ? last : cycle;
  wire [7:0] data_cycle = LATE ? cycle - 1 : cycle;
  reg [UNITS*BITS-1:0] write_data;
  integer w;
  always @* begin
    write_data = 0;
    for (w = 0; w < WRITES; w = w + 1)
      if (last == w ? data_cycle == WRITES : data_cycle == w)
        write_data = tables[w*UNITS*BITS +: UNITS*BITS];
  end
  wire [7:0] book = word / K;
  wire [7:0] step = cycle - TAKE;   // in the look-up
  localparam WIRES = BINARY ? T : K;
  wire [7:0] code_step = step + AHEAD;
  wire [Q*ROWS*WIRES-1:0] codes_of_step;
  genvar q, r;
  generate for (q = 0; q < Q; q = q + 1) for (r = 0; r < ROWS; r = r + 1) begin : selects
    reg [T-1:0] code;
    integer g;
    always @* begin
      code = 0;
      for (g = 0; g < G; g = g + 1)
        if (code_step == g) code = codes[(r*C + g*Q + q)*T +: T];
    end
    assign codes_of_step[(q*ROWS + r)*WIRES +: WIRES] = BINARY ? code : 1 << code;
  end endgenerate
  wire [AHEAD+SUM_STAGES:0] enable;
  generate for (q = 0; q <= AHEAD + SUM_STAGES; q = q + 1) begin : stages
    assign enable[q] = cycle >= TAKE - AHEAD + q & cycle < TAKE - AHEAD + q + G;
  end endgenerate

  wire [UNITS*ROWS*ACC-1:0] sums;
  `DUT dut (
    .clk_i(clk),
    .write_enable(cycle <= WRITES),
`ifdef BOOKS
    .write_codebook(book[CBITS-1:0]),
`endif
    .write_prototype(word[T-1:0]),
    .write_data(write_data ^ (twin == 1 & cycle == TAKE - 1)),
`ifdef GROUPS
    .group(twin == 2 ? 1 : 1 << step),
`endif
`ifdef FIRST
    .first(twin == 3 ? 1'b0 : cycle == TAKE + SUM_STAGES),
`endif
    .codes(codes_of_step), .enable(enable), .sums(sums));

  wire [UNITS*ROWS-1:0] wrong;
  genvar u;
  generate for (u = 0; u < UNITS; u = u + 1) for (r = 0; r < ROWS; r = r + 1) begin : columns
    reg signed [BITS-1:0] entry;
    integer total, c, k;
    always @* begin
      total = 0;
      for (c = 0; c < C; c = c + 1) begin
        entry = 0;
        for (k = 0; k < K; k = k + 1)
          if (codes[(r*C + c)*T +: T] == k) entry = tables[((c*K + k)*UNITS + u)*BITS +: BITS];
        total = total + entry;
      end
    end
    wire signed [ACC-1:0] sum = sums[(u*ROWS + r)*ACC +: ACC];
    wire signed [31:0] wide = sum;
    assign wrong[u*ROWS + r] = wide != total;
  end endgenerate
  assign bad_sums = cycle == TAKE + G + SUM_STAGES & last < WRITES & |wrong;
endmodule
