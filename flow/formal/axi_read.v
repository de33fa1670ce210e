// The read channels of the master: offers stay, bursts keep their limits, nothing is asked after abort.
//
// Commands, ready, abort and clear are free; memory answers only what was asked.
module proof #(
  parameter ADDRESS = 32, parameter DATA = 32, parameter SHIFT = 2, parameter BEATS = 4,
  parameter ROOM = 8
) (
  input clk, input [7:0] twin, input again,
  input command_valid, input [ADDRESS-1:0] command_address, input [31:0] command_bytes,
  input arready, input answers, input [DATA-1:0] rdata, input [1:0] rresp,
  input o_ready, input abort,
  output bad_stable, output bad_boundary, output bad_length, output bad_aligned, output bad_room,
  output bad_ready, output bad_abort, output bad_reset
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;
  wire arvalid, rready, o_valid, command_ready, idle, own_arvalid;
  wire [ADDRESS-1:0] own_araddr;
  wire [7:0] own_arlen;
  wire [ADDRESS-1:0] araddr = twin == 2 ? own_araddr + (1 << SHIFT) : own_araddr ^ (twin == 4);
  wire [7:0] arlen = twin == 3 ? own_arlen + arready : own_arlen;
  assign arvalid = own_arvalid;
  wire r = answers & owed != 0;
  wire asked = arvalid & arready;
  reg [7:0] owed = 0;         // words that memory owes
  reg [7:0] inside = 0;       // words that came and were not given
  `DUT dut (
    .clk_i(clk), .rst_ni(twin == 8 ? started : live),
    .command_valid(command_valid & command_bytes != 0), .command_ready(command_ready),
    .command_address(command_address), .command_bytes(command_bytes),
    .o_valid(o_valid), .o_ready(o_ready),
    .araddr(own_araddr), .arlen(own_arlen), .arvalid(own_arvalid),
    .arready(twin == 1 ? 1'b1 : arready),
    .rdata(rdata), .rresp(rresp), .rlast(last), .rvalid(r), .rready(rready),
    .abort(twin == 7 ? 1'b0 : abort), .clear(1'b0), .idle(idle)
  );
  // Lengths of the bursts that are open, the oldest in the lowest bits.
  reg [63:0] lengths = 0;
  reg [3:0] bursts = 0;
  reg [7:0] beat = 0;
  wire last = beat == lengths[7:0];
  wire ends = r & last;
  reg waits = 0, aborted = 0;
  reg [ADDRESS+7:0] before;
  always @(posedge clk)
    if (!live) begin
      owed <= 0; waits <= 0; aborted <= 0; bursts <= 0; beat <= 0; lengths <= 0;
    end else begin
      owed <= owed + (asked ? arlen + 1 : 0) - r;
      bursts <= bursts + asked - ends;
      lengths <= (ends ? lengths >> 8 : lengths)
               | (asked ? {56'd0, arlen} << (8 * (bursts - ends)) : 64'd0);
      beat <= ends ? 0 : beat + r;
      waits <= arvalid & ~arready;
      before <= {araddr, arlen};
      aborted <= abort;
    end
  wire [ADDRESS-1:0] final = araddr + (arlen << SHIFT);
  assign bad_stable = live & waits & (~arvalid | {araddr, arlen} != before);
  assign bad_boundary = live & arvalid & (araddr / (BEATS << SHIFT) != final / (BEATS << SHIFT));
  assign bad_length = live & arvalid & arlen >= BEATS;
  assign bad_aligned = live & arvalid & |araddr[SHIFT-1:0];
  assign bad_room = live & owed > (twin == 5 ? ROOM - 1 : ROOM);
  assign bad_ready = live & ~(twin == 6 ? rready & arready : rready);
  assign bad_abort = live & aborted & arvalid & ~waits;
  assign bad_reset = started & ~live & (arvalid | command_ready);
endmodule
