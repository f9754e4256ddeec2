"""What the platform team sees and is told: SLOs, alerts, dashboards. `python -m pvf.monitoring` writes the files from them."""
