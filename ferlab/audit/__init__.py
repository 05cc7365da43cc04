"""What to know of a data set before training on it: copies, label issues, shifts, cleaning."""
