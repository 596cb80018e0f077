"""Ways to choose a threshold without an oracle: rules that look at maps alone and their evidence, and few masks."""
