"""Rules that choose a threshold from maps alone, and the evidence that they read."""
