"""Confusion matrices, what follows from them, thresholds and their kinds, and the rows that record them."""
