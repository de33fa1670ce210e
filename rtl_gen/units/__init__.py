"""The units that an accelerator is made of, in the order in which a row meets them."""
