// Adders as carry chains of ECP5 that begin and end in the cells of their sum.
//
// A chain whose carry comes from logic, or a constant, or goes there, gets a cell more at that end
// from nextpnr. Here the first half of the first cell makes the carry, whatever its own carry input
// is, which is left open; and carries that logic needs are made of the sum's bits.
(* techmap_celltype = "$alu" *)
module halut_adder (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  (* force_downto *)
  input [A_WIDTH-1:0] A;
  (* force_downto *)
  input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *)
  output [Y_WIDTH-1:0] X, Y, CO;

  // Short ones are smaller as logic.
  wire _TECHMAP_FAIL_ = Y_WIDTH <= 4;

  localparam CELLS = (Y_WIDTH + 2) / 2;
  localparam HALVES = 2 * CELLS;

  (* force_downto *)
  wire [Y_WIDTH-1:0] a, b;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) extend_a (.A(A), .Y(a));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) extend_b (.A(B), .Y(b));

  // By half cell: the first passes CI on, a bit of the sum is in each of the others.
  (* force_downto *)
  wire [HALVES-1:0] first = {a, CI}, second = {b, 1'b0}, sum;
  (* force_downto *)
  wire [CELLS:0] carry;

  genvar i;
  generate for (i = 0; i < CELLS; i = i + 1) begin : cells
    // A bit: propagates where A ^ B ^ BI, else generates A. The first half: generates A.
    localparam [15:0] BIT = 16'h96aa;
    if (i == 0)
      CCU2C #(.INIT0(16'h000a), .INIT1(BIT), .INJECT1_0("NO"), .INJECT1_1("NO")) ccu2c (
        .A0(first[0]), .B0(1'b0), .C0(1'b0), .D0(1'b1),
        .A1(first[1]), .B1(second[1]), .C1(BI), .D1(1'b1),
        .S0(sum[0]), .S1(sum[1]), .COUT(carry[1])
      );
    else if (i == CELLS - 1)
      CCU2C #(.INIT0(BIT), .INIT1(BIT), .INJECT1_0("NO"), .INJECT1_1("NO")) ccu2c (
        .CIN(carry[i]),
        .A0(first[2*i]), .B0(second[2*i]), .C0(BI), .D0(1'b1),
        .A1(first[2*i+1]), .B1(second[2*i+1]), .C1(BI), .D1(1'b1),
        .S0(sum[2*i]), .S1(sum[2*i+1])
      );
    else
      CCU2C #(.INIT0(BIT), .INIT1(BIT), .INJECT1_0("NO"), .INJECT1_1("NO")) ccu2c (
        .CIN(carry[i]),
        .A0(first[2*i]), .B0(second[2*i]), .C0(BI), .D0(1'b1),
        .A1(first[2*i+1]), .B1(second[2*i+1]), .C1(BI), .D1(1'b1),
        .S0(sum[2*i]), .S1(sum[2*i+1]), .COUT(carry[i+1])
      );
  end endgenerate

  assign Y = sum[Y_WIDTH:1];
  assign X = a ^ b ^ {Y_WIDTH{BI}};
  // Where a bit propagates, the carry out of it is the carry into it: the complement of its sum.
  assign CO = (X & ~Y) | (~X & a);
endmodule
