"""Pipelines composed from the components, their compilation, and the local runner."""
