"""One run: options, steps, what need not be done again."""
