"""What is wrong with a data set, said before hours are spent on it."""
