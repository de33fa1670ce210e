// The full adder that designs ask for by name.
module halut_full_adder(input a, b, c, output carry, sum);
  \$fa #(.WIDTH(1)) adder (.A(a), .B(b), .C(c), .X(carry), .Y(sum));
endmodule
