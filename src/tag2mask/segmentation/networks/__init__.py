"""The architectures of the second stage, and building, saving and loading them."""
