"""A pixel model: from what a map shows coarsely, which pixels of it are the thing, by small-reach features of the image."""
