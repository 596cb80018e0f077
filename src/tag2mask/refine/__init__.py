"""From maps to refined seeds and pseudo-masks: dense CRF, affinity random walk."""
