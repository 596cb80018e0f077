"""Core types: samples, maps, prototypes, ledger, palette, errors. Imports nothing of ours."""
