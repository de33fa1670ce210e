primitive halut_dff0 (q, c, d);
  output q; reg q; input c, d;
  initial q = 1'b0;
  table
    r 0 : ? : 0; r 1 : ? : 1; (0x) ? : ? : -; (?0) ? : ? : -; (x1) ? : ? : -; ? * : ? : -;
  endtable
endprimitive
primitive halut_dff1 (q, c, d);
  output q; reg q; input c, d;
  initial q = 1'b1;
  table
    r 0 : ? : 0; r 1 : ? : 1; (0x) ? : ? : -; (?0) ? : ? : -; (x1) ? : ? : -; ? * : ? : -;
  endtable
endprimitive
primitive halut_latch0 (q, g, d);
  output q; reg q; input g, d;
  initial q = 1'b0;
  table
    1 0 : ? : 0; 1 1 : ? : 1; 0 ? : ? : -; x ? : ? : -;
  endtable
endprimitive
primitive halut_latch1 (q, g, d);
  output q; reg q; input g, d;
  initial q = 1'b1;
  table
    1 0 : ? : 0; 1 1 : ? : 1; 0 ? : ? : -; x ? : ? : -;
  endtable
endprimitive
