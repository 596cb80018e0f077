"""From photos to masks: choices, tiles, probabilities, folders."""
