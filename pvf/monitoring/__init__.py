"""What the platform team sees and is told: SLOs, alerts. `python -m pvf.monitoring` writes the files from them."""
