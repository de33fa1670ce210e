// Comparisons as a carry chain without sums: no full-adder cell pays for a sum nobody reads.
(* techmap_celltype = "$lt $le $gt $ge" *)
module _70_halut_compare(A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter _TECHMAP_CELLTYPE_ = "";
  (* force_downto *) input [A_WIDTH-1:0] A;
  (* force_downto *) input [B_WIDTH-1:0] B;
  (* force_downto *) output [Y_WIDTH-1:0] Y;
  localparam WIDTH = A_WIDTH > B_WIDTH ? A_WIDTH : B_WIDTH;
  localparam SWAP = _TECHMAP_CELLTYPE_ == "$lt" || _TECHMAP_CELLTYPE_ == "$le";
  localparam EQUAL = _TECHMAP_CELLTYPE_ == "$le" || _TECHMAP_CELLTYPE_ == "$ge";
  wire [WIDTH-1:0] a, b, more, less;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(WIDTH)) wide_a (.A(A), .Y(a));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(WIDTH)) wide_b (.A(B), .Y(b));
  wire [WIDTH-1:0] sign = (A_SIGNED && B_SIGNED) ? {1'b1, {WIDTH-1{1'b0}}} : {WIDTH{1'b0}};
  assign more = (SWAP ? b : a) ^ sign;
  assign less = (SWAP ? a : b) ^ sign;
  wire [WIDTH-1:0] carry;
  \$lcu #(.WIDTH(WIDTH)) chain (
    .P(more | ~less), .G(more & ~less), .CI(EQUAL), .CO(carry));
  assign Y = carry[WIDTH-1];
endmodule
