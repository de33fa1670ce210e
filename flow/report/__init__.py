"""What a person reads of a run: terminal and HTML."""
