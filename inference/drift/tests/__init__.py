"""Tests of the drift job. They run in its own environment: `.venv-drift/bin/python -m pytest inference/drift/tests`."""
