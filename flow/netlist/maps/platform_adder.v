// Full adders as the platform's cell: CELL with pins PIN_A to PIN_S, inverting with INVERTED.
(* techmap_celltype = "$fa" *)
module _70_halut_fa(A, B, C, X, Y);
  parameter WIDTH = 1;
  (* force_downto *) input [WIDTH-1:0] A, B, C;
  (* force_downto *) output [WIDTH-1:0] X, Y;
  genvar i;
  generate for (i = 0; i < WIDTH; i = i + 1) begin : bits
    wire a = A[i], b = B[i], c = C[i], co, s;
    `CELL adder (.`PIN_A(a), .`PIN_B(b), .`PIN_C(c), .`PIN_CO(co), .`PIN_S(s));
`ifdef INVERTED
    assign X[i] = ~co;
    assign Y[i] = ~s;
`else
    assign X[i] = co;
    assign Y[i] = s;
`endif
  end endgenerate
endmodule
