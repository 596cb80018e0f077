"""The data sets: one module each, with `SETTINGS` and `open_split`."""
