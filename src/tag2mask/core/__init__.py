"""Words of the domain: samples, maps, prototypes, ledger, palette, errors. Imports nothing of ours."""
