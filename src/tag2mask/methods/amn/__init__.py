"""AMN: activation maps from a network that classifies each pixel, trained on refined seeds and conditioned on tags."""
