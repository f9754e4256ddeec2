"""The predictor: the deployed bundle behind gRPC v2, replaced without a dropped request."""
