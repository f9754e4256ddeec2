"""The domain library of the PV forecast platform.

Knows parks, weather, generation, features, models and their evaluation. It imports neither kfp nor kserve nor
anything of Kubernetes, and does not know whether it runs on a laptop or on a cluster.
"""
