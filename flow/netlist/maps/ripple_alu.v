// Two-operand sums as a chain of full adders.
(* techmap_celltype = "$alu" *)
module _70_halut_ripple_alu(A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  (* force_downto *) input [A_WIDTH-1:0] A;
  (* force_downto *) input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *) output [Y_WIDTH-1:0] X, Y, CO;
  wire [Y_WIDTH-1:0] a, b;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) wide_a (.A(A), .Y(a));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) wide_b (.A(B), .Y(b));
  wire [Y_WIDTH-1:0] operand = b ^ {Y_WIDTH{BI}};
  wire [Y_WIDTH:0] carry;
  assign X = a ^ operand;
  assign carry[0] = CI;
  assign CO = carry[Y_WIDTH:1];
  \$fa #(.WIDTH(Y_WIDTH)) adders (
    .A(a), .B(operand), .C(carry[Y_WIDTH-1:0]), .X(carry[Y_WIDTH:1]), .Y(Y));
endmodule
