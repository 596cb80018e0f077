"""IRN: boundaries between classes, learned from refined seeds, along which activation maps are spread."""
