"""What `benchmarks.drift` plants and counts. Shares neither code nor constants with the drift job's diagnosis."""
