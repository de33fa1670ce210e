// A register slice on a stream, right (bug_i = 0) or with one of the bugs that the drivers,
// monitors and scoreboards of sim/ must catch.
`timescale 1ns / 1ps
module register_slice #(
  parameter WIDTH = 8
) (
  input wire clk_i,
  input wire rst_ni,
  input wire [2:0] bug_i,
  input wire i_valid,
  output wire i_ready,
  input wire [WIDTH-1:0] i_data,
  output wire o_valid,
  input wire o_ready,
  output wire [WIDTH-1:0] o_data
);
  localparam [WIDTH-1:0] ONE = {{(WIDTH-1){1'b0}}, 1'b1};
  reg full;
  reg waited;
  reg [WIDTH-1:0] held;
  reg [7:0] count;

  assign i_ready = !full || o_ready || (bug_i == 4 && count[3]);
  assign o_valid = full && !(bug_i == 1 && !o_ready) && !(bug_i == 3 && waited);
  assign o_data = held ^ ((bug_i == 6 && count == 20) ? ONE : 0 * ONE);

  always @(posedge clk_i) begin
    if (!rst_ni) begin
      full <= 1'b0;
      waited <= 1'b0;
      count <= 8'd0;
    end else begin
      if (i_ready) full <= i_valid || bug_i == 7 || (bug_i == 5 && count == 9);
      waited <= full && !o_ready;
      if (i_valid && i_ready) count <= count + 8'd1;
    end
    if (i_ready && (i_valid || bug_i == 7)) held <= i_data;
    else if (bug_i == 2 && !i_ready) held <= held + ONE;
  end
endmodule
