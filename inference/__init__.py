"""The services: predictor, transformer, prediction log, drift job, retrain trigger. Each imports only what it runs."""
