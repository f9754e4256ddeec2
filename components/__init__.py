"""Reusable KFP components: one folder each, with component.py (a thin body), README.md, metadata.yaml and tests."""
