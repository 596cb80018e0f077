"""Which threshold a stage cuts at: constant, by a rule, or chosen on a few masks."""
