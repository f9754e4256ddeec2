"""The quantile model, its calibration, and the bundle that carries both to serving."""
