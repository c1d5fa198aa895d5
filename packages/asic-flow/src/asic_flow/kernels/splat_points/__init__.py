"""Anti-aliased Gaussian splats of points onto images."""
