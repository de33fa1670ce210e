// Sends the words of a memory over a stream, one in every cycle that takes one.
module halut_test_source(clk, run, ready, valid, payload, done);
  parameter WIDTH = 8;
  parameter LENGTH = 2;
  parameter ADDRESS_BITS = 1;
  parameter FILE = "";
  input wire clk, run, ready;
  output reg valid = 0;
  output reg [WIDTH-1:0] payload;
  output wire done;

  reg [WIDTH-1:0] words [0:LENGTH-1];
  reg [ADDRESS_BITS:0] next = 0;
  wire at_end = next == LENGTH;
  wire moves = run && (!valid || ready);
  assign done = at_end && !valid;
  initial $readmemh(FILE, words);

  always @(posedge clk) begin
    if (moves && !at_end) begin
      payload <= words[next[ADDRESS_BITS-1:0]];
      next <= next + 1'b1;
    end
    if (moves) valid <= !at_end;
  end
endmodule

// Takes results and compares each with a word of a memory; `wrong` stays once a result differs.
module halut_test_sink(clk, run, valid, ready, result, done, wrong);
  parameter WIDTH = 8;
  parameter LENGTH = 2;
  parameter ADDRESS_BITS = 1;
  parameter FILE = "";
  input wire clk, run, valid;
  output wire ready, done;
  input wire [WIDTH-1:0] result;
  output reg wrong = 0;

  wire known;
  wire [WIDTH-1:0] expected;
  assign ready = known || done;
  halut_test_source #(
    .WIDTH(WIDTH), .LENGTH(LENGTH), .ADDRESS_BITS(ADDRESS_BITS), .FILE(FILE)
  ) words(
    .clk(clk), .run(run), .ready(valid), .valid(known), .payload(expected), .done(done)
  );

  always @(posedge clk)
    // Another result than expected, or one more than there should be.
    if (run && valid && ready && (done || result != expected)) wrong <= 1'b1;
endmodule
