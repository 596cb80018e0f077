"""Dense CRF: mean-field inference with Gaussian and bilateral kernels on permutohedral lattices."""
