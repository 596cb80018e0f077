"""A pixel model: which pixels of a coarse map's active region are the thing, by features of small reach."""
