"""One way to train a network, so that it can be interrupted, resumed and shared among processes."""
