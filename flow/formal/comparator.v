// A comparator of signed numbers, said with unsigned ones.
module proof #(parameter W = 8) (
  input clk, input [7:0] twin, input [W-1:0] value, input [W-1:0] threshold, output bad_greater
);
  wire greater;
  `DUT dut (.value(value), .threshold(threshold), .greater(greater));
  wire above = value[W-2:0] > threshold[W-2:0];
  wire want = value[W-1] != threshold[W-1] ? threshold[W-1]
            : twin == 1 ? value[W-2:0] >= threshold[W-2:0] : above;
  // ABC's bounded check wants a register.
  reg started = 0;
  always @(posedge clk) started <= 1;
  assign bad_greater = started & greater != want;
endmodule
