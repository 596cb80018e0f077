"""The experiments of the papers, sweeps over settings, comparisons of runs and the making again of tables."""
