"""Audit of data before training: copies, label issues, distribution shift, cleaning."""
