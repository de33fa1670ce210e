// The sums of partial sums are exact.
module proof #(parameter TERMS = 2, parameter RESULTS = 1, parameter IN = 4, parameter OUT = 5) (
  input clk, input [7:0] twin, input [TERMS*RESULTS*IN-1:0] partial, output bad_sums
);
  reg [1:0] cycle = 0;
  reg [TERMS*RESULTS*IN-1:0] before;
  always @(posedge clk) begin
    if (cycle != 3) cycle <= cycle + 1;
    if (cycle == 0) before <= partial;
  end
  wire [RESULTS*OUT-1:0] sums;
  `DUT dut (.clk_i(clk), .enable(cycle == 0), .partial(twin == 1 ? partial ^ 1'b1 : partial),
    .sums(sums));
  wire [RESULTS-1:0] wrong;
  genvar j;
  generate for (j = 0; j < RESULTS; j = j + 1) begin : results
    integer total, d;
    always @* begin
      total = 0;
      for (d = 0; d < TERMS; d = d + 1)
        total = total + $signed(before[(d*RESULTS + j)*IN +: IN]);
    end
    wire signed [OUT-1:0] sum = sums[j*OUT +: OUT];
    wire signed [31:0] wide = sum;
    assign wrong[j] = wide != total;
  end endgenerate
  assign bad_sums = cycle == 1 & |wrong;
endmodule
