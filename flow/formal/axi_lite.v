// An AXI4-Lite slave: answers stay until they are taken, every request gets one, none comes by itself.
//
// All inputs are free, but that a master keeps an offer until it is taken.
module proof (
  input clk, input [7:0] twin, input again,
  input awvalid, input wvalid, input arvalid, input bready, input rready,
  input [11:0] awaddr, input [31:0] wdata, input [3:0] wstrb, input [11:0] araddr,
  input [31:0] read_data, input error,
  output bad_b_stable, output bad_r_stable, output bad_b_asked, output bad_r_asked,
  output bad_once, output bad_write, output bad_read, output bad_hang, output bad_reset
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;

  wire own_awready, own_wready, own_arready, own_bvalid, own_rvalid, select, write;
  wire [1:0] bresp, rresp;
  wire [31:0] rdata, data;
  wire [11:0] address;
  wire [3:0] strobe;
  wire awready = own_awready, wready = own_wready, arready = own_arready;
  wire bvalid = twin == 3 ? own_bvalid | bready : own_bvalid;
  wire rvalid = twin == 4 ? own_rvalid | rready : own_rvalid;
  `DUT dut (
    .clk_i(clk), .rst_ni(twin == 9 ? started : live),
    .awaddr(awaddr), .awprot(3'd0), .awvalid(awvalid), .awready(own_awready),
    .wdata(wdata), .wstrb(wstrb), .wvalid(wvalid), .wready(own_wready),
    .bresp(bresp), .bvalid(own_bvalid), .bready(twin == 1 ? 1'b1 : bready),
    .araddr(araddr), .arprot(3'd0), .arvalid(arvalid), .arready(own_arready),
    .rdata(rdata), .rresp(rresp), .rvalid(own_rvalid), .rready(twin == 2 ? 1'b1 : rready),
    .select(select), .write(write), .address(address), .data(data), .strobe(strobe),
    .read_data(read_data), .error(error)
  );

  // What was asked and is not answered yet.
  reg [1:0] aws = 0, ws = 0, ars = 0, accesses = 0, read_accesses = 0;
  wire aw = awvalid & awready, w = wvalid & wready, ar = arvalid & arready;
  wire b = bvalid & bready, r = rvalid & rready;
  wire write_access = select & write, read_access = select & ~write;
  reg [11:0] last_aw, last_ar;
  reg [35:0] last_w;
  reg [31:0] kept_data;
  reg [1:0] kept_resp;
  reg waits_b = 0, waits_r = 0;
  reg [1:0] b_before, b_expected;
  reg [33:0] r_before, r_expected;
  reg [2:0] waited = 0;
  always @(posedge clk)
    if (!live) begin
      aws <= 0; ws <= 0; ars <= 0; accesses <= 0; read_accesses <= 0;
      waits_b <= 0; waits_r <= 0; waited <= 0;
    end else begin
      aws <= aws + aw - write_access;
      ws <= ws + w - write_access;
      ars <= ars + ar - read_access;
      accesses <= accesses + write_access - b;
      read_accesses <= read_accesses + read_access - r;
      if (aw) last_aw <= awaddr;
      if (w) last_w <= {wstrb, wdata};
      if (ar) last_ar <= araddr;
      if (write_access) b_expected <= {error, 1'b0};
      if (read_access) r_expected <= {error, 1'b0, read_data};
      waits_b <= bvalid & ~bready; b_before <= bresp;
      waits_r <= rvalid & ~rready; r_before <= {rresp, rdata};
      if (b | r | ((aws == 0 | ws == 0) & ars == 0) | (bvalid & ~bready) | (rvalid & ~rready))
        waited <= 0;
      else waited <= waited + 1;
    end
  assign bad_b_stable = live & waits_b & (~bvalid | bresp != b_before | bresp != b_expected);
  assign bad_r_stable = live & waits_r
                      & (~rvalid | {rresp, rdata} != r_before | {rresp, rdata} != r_expected);
  assign bad_b_asked = live & bvalid & accesses == 0;
  assign bad_r_asked = live & rvalid & read_accesses == 0;
  assign bad_once = live & ((write_access & (aws == 0 | ws == 0)) | (read_access & ars == 0)
                  | (twin == 5 & select & bready));
  assign bad_write = live & write_access
                   & (address != last_aw || {strobe, data} != (twin == 6 ? ~last_w : last_w));
  assign bad_read = live & read_access & address != (twin == 7 ? ~last_ar : last_ar);
  assign bad_hang = live & waited == (twin == 8 ? 1 : 4);
  assign bad_reset = started & ~live & (awready | wready | arready | bvalid | rvalid);
endmodule
