"""Place and route with OpenROAD, and what is made of a layout."""
