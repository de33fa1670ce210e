// The serialiser sends every row group's sums once, in beats, and obeys the stream rules.
module proof #(
  parameter BEATS = 4, parameter BBITS = 2, parameter BEAT = 6  // bits of a beat
) (
  input clk, input [7:0] twin, input again,
  input i_valid, input [BEATS*BEAT-1:0] i_data, input o_ready,
  output bad_ready, output bad_valid, output bad_data, output bad_last, output bad_index,
  output bad_stable
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;

  wire i_ready, own_valid, o_last;
  wire [BEAT-1:0] o_data;
  wire [BBITS-1:0] own_index;
  wire o_valid = twin == 2 ? own_valid & o_ready : own_valid;
  wire [BBITS-1:0] o_index = twin == 5 ? own_index ^ o_ready : own_index;
  `DUT dut (
`ifdef SEVERAL
    .clk_i(clk), .rst_ni(live), .o_index(own_index),
`endif
    .i_valid(i_valid), .i_ready(i_ready),
    .i_data(twin == 3 ? {i_data[0 +: BEAT], i_data[BEATS*BEAT-1 : BEAT]} + 1'b1 : i_data),
    .o_valid(own_valid), .o_ready(twin == 6 ? 1'b1 : o_ready), .o_data(o_data), .o_last(o_last));

  // What is to be sent: one row group, `sent` beats of it are gone.
  reg full = 0;
  reg [7:0] sent = 0;
  reg [BEATS*BEAT-1:0] sums;
  wire through = BEATS == 1;
  wire now = through ? i_valid : full;
  wire [BEATS*BEAT-1:0] sums_now = through ? i_data : sums;
  wire gone = now & o_ready;
  wire ended = gone & sent == BEATS - 1;
  wire free = through ? o_ready : ~full | ended;
  always @(posedge clk)
    if (!live) begin full <= 0; sent <= 0; end
    else begin
      if (gone) sent <= ended ? 0 : sent + 1;
      if (ended) full <= 0;
      if (i_valid & free & !through) begin full <= 1; sums <= i_data; end
    end
  assign bad_ready = live & (twin == 1 ? i_ready & i_valid : i_ready) != free;
  assign bad_valid = live & o_valid != now;
  assign bad_data = live & now & o_data != sums_now[sent*BEAT +: BEAT];
  assign bad_last = live & now & o_last != (sent == (twin == 4 ? BEATS : BEATS - 1));
`ifdef SEVERAL
  assign bad_index = live & now & o_index != sent;
`else
  assign own_index = 0, bad_index = 0;
`endif

  // The stream's rule, apart from what is sent.
  reg waiting = 0;
  reg [BEAT:0] shown;
  always @(posedge clk) begin
    waiting <= live & o_valid & ~o_ready;
    shown <= {o_last, o_data};
  end
`ifdef SEVERAL
  assign bad_stable = live & waiting & (~o_valid | {o_last, o_data} != shown);
`else
  assign bad_stable = 0;
`endif
endmodule
