"""The command line: one module a verb, each a thin layer over functions that Python can call too."""
