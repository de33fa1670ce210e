// What the control unit promises, seen from its ports.
//
// A reference follows every transfer through the pipeline by the enables: a transfer in stage s
// moves to stage s + 1 when enable[s] is 1; stage 0 is the input. G transfers make a row group,
// whose sums are finished when its last transfer leaves the last stage. All inputs are free.
module proof #(
  parameter STAGES = 5,     // enables
  parameter G = 4,          // transfers of a row group
  parameter GBITS = 2,      // bits of a stored codebook group
  parameter BANKS = 1,
  parameter LEVELS = 2,     // tree levels
  parameter PER_STAGE = 1,  // tree levels per stage
  parameter FIRST_STAGE = 0,  // that fetches, or reads, the root's threshold
  parameter LOOK_UP = 3     // stage of the look-up
) (
  input clk, input [7:0] twin, input again,
  input i_valid, input program_valid, input ready_next,
  input program_switch, input program_bank, input output_busy,
  output bad_accept, output bad_enable, output bad_lost, output bad_group, output bad_look_up,
  output bad_first, output bad_sums, output bad_still, output bad_phase, output bad_word,
  output bad_offered, output bad_settle, output bad_bank, output bad_reset, output bad_ready,
  output bad_program_ready
);
  localparam LAST = STAGES - 1;

  // Any state, then a reset, and more resets at any time.
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;

  // Room for finished sums; with a skid buffer it is known a cycle before.
`ifdef SKID
  reg sums_ready;
  always @(posedge clk) sums_ready <= ready_next;
`else
  wire sums_ready = ready_next;
`endif

  // The unit; with a twin, broken at one of its ports.
  wire own_i_ready, own_program_ready, sums_valid;
  wire [LAST:0] own_enable;
  wire i_ready = own_i_ready & (twin == 15 ? sums_ready : 1'b1);
  wire program_ready = twin == 10 ? own_program_ready | sums_ready
                     : twin == 16 ? own_program_ready & sums_ready : own_program_ready;
  wire [LAST:0] enable = twin == 2 ? own_enable | {STAGES{sums_ready}}
                       : twin == 3 ? own_enable & ~(1 << LAST) : own_enable;
  `DUT dut (
    .clk_i(clk),
    .rst_ni(twin == 14 ? started : live),
    .i_valid(twin == 1 ? 1'b1 : i_valid), .i_ready(own_i_ready),
    .program_valid(twin == 11 ? 1'b0 : twin == 12 ? program_valid & ~own_program_ready
                                                  : program_valid),
    .program_ready(own_program_ready),
    .sums_valid(sums_valid),
`ifdef SKID
    .full_next(twin == 8 ? 1'b0 : ~ready_next),
`else
    .sums_ready(twin == 8 ? 1'b1 : sums_ready),
`endif
`ifdef BUSY
    .output_busy(output_busy),
`endif
`ifdef DOUBLE
    .program_switch(program_switch),
    .program_bank(twin == 13 ? program_bank ^ program_switch : program_bank),
`endif
`ifdef INTERLEAVED
    .phase(phase),
`endif
`ifdef GROUPS
    .group(own_group), .lut_group(own_lut_group),
`endif
`ifdef FIRST
    .first(own_first),
`endif
`ifdef ACTIVE
    .active_bank(active_bank),
`endif
    .enable(own_enable)
  );

  // The reference.
  wire taken = i_valid & i_ready;
  wire accepted = program_valid & program_ready;
  reg bank = 0;
`ifdef DOUBLE
  wire aside = ~program_switch & (program_bank != bank);
`else
  wire aside = 0;
`endif
`ifdef BUSY
  wire behind = pending | output_busy;
`else
  wire behind = 0;
`endif
  reg pending = 0;               // finished sums wait
  reg settling = 0;              // a word for the bank in use was accepted in the cycle before
  reg [LAST:0] there = 0;        // a transfer is in the stage
  reg [7:0] step [0:LAST];       // which one of its row group
  reg [7:0] next_step = 0;
  wire [LAST:0] present = {there[LAST:1], taken};
  wire finished = enable[LAST] & present[LAST] & step_of[LAST*8 +: 8] == G - 1;
  wire [STAGES*8-1:0] step_of;
  genvar s;
  generate for (s = 0; s < STAGES; s = s + 1) begin : stages
    assign step_of[s*8 +: 8] = s == 0 ? next_step : step[s];
    if (s > 0)
      always @(posedge clk)
        if (!live) there[s] <= 0;
        else if (enable[s-1]) begin there[s] <= 1; step[s] <= step_of[(s-1)*8 +: 8]; end
        else if (enable[s]) there[s] <= 0;
  end endgenerate
  always @(posedge clk)
    if (!live) begin
      pending <= 0; settling <= 0; next_step <= 0; bank <= 0;
    end else begin
      pending <= finished | (pending & ~sums_ready);
      settling <= accepted & ~aside;
      if (taken) next_step <= next_step == G - 1 ? 0 : next_step + 1;
      if (accepted & program_switch & BANKS > 1) bank <= program_bank;
    end

  wire begins = next_step == 0;
  wire empty = ~|there[LAST:1];
  assign bad_accept = live & (enable[0] != taken);
  assign bad_enable = live & |(enable[LAST:1] & ~there[LAST:1]);
  assign bad_lost = live & |(enable[LAST-1:0] & there[LAST:1] & ~enable[LAST:1]);
  assign bad_sums = live & ((sums_valid != pending) | (finished & pending & ~sums_ready));
  assign bad_still = live & pending & ~sums_ready & |enable;
  assign bad_word = live & accepted & ~aside & ~(begins & empty & ~behind);
  assign bad_offered = live & taken & begins & program_valid & ~aside;
  assign bad_settle = live & taken & begins & settling;
  assign bad_reset = started & ~live & (i_ready | program_ready);
  assign bad_ready = live & ~i_ready & ~(pending & ~sums_ready)
                   & ~(begins & (settling | (program_valid & ~aside)));
  assign bad_program_ready = live & ~program_ready & (aside | (begins & empty & ~behind));

  function [7:0] stored(input [7:0] of_step);
    stored = of_step + bank * G;
  endfunction
`ifdef GROUPS
  wire [LEVELS*GBITS-1:0] own_group;
  wire [LEVELS*GBITS-1:0] group = twin == 4 ? own_group ^ {LEVELS*GBITS{sums_ready}} : own_group;
  wire [LEVELS-1:0] wrong;
  generate for (s = 0; s < LEVELS; s = s + 1) begin : levels
    assign wrong[s] = enable[s / PER_STAGE + FIRST_STAGE]
                    & group[s*GBITS +: GBITS] != stored(step_of[(s / PER_STAGE + FIRST_STAGE)*8 +: 8]);
  end endgenerate
  assign bad_group = live & |wrong;
`ifdef SRAM
  // The group in its bank, and the bank above.
  wire [GBITS-1:0] own_lut_group, want = step_of[LOOK_UP*8 +: 8]
                                       | (BANKS > 1 && bank ? 1 << (GBITS - 1) : 0);
`elsif BINARY
  wire [GBITS-1:0] own_lut_group, want = stored(step_of[LOOK_UP*8 +: 8]);
`else
  wire [BANKS*G-1:0] own_lut_group, want = 1 << stored(step_of[LOOK_UP*8 +: 8]);
`endif
  assign bad_look_up = live & enable[LOOK_UP] & (own_lut_group != want ^ (twin == 5 & sums_ready));
`else
  assign bad_group = 0, bad_look_up = 0;
`endif
`ifdef FIRST
  wire own_first;
  assign bad_first = live & enable[LAST]
                   & (own_first ^ (twin == 6)) != (step_of[LAST*8 +: 8] == 0);
`else
  assign bad_first = 0;
`endif
`ifdef INTERLEAVED
  wire [LEVELS-1:0] phase;
  reg [LEVELS-1:0] turn = 1;
  always @(posedge clk)
    if (!live) turn <= 1;
    else if (~(pending & ~sums_ready)) turn <= {turn, turn[LEVELS-1]};
  assign bad_phase = live & phase != turn;
`else
  assign bad_phase = 0;
`endif
`ifdef ACTIVE
  wire active_bank;
  assign bad_bank = live & active_bank != bank;
`else
  assign bad_bank = 0;
`endif
endmodule
