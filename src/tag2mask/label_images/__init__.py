"""Label images made from maps: refined seeds, seeds after one CRF pass, pseudo-masks."""
