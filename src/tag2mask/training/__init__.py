"""The training shell: one way to train a Lightning module so that it can be interrupted, resumed and shared out."""
