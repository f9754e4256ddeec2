"""The domain library of the PV forecast platform.

Knows parks, weather, generation, features, models and their evaluation. It imports neither kfp nor kserve nor
anything of Kubernetes, and does not know whether it runs on a laptop or on a cluster.
"""

import os

# XGBoost's threads spin while they wait for each other. Beside other processes on the same cores that made one fit
# twenty times slower (332 s against 16 s); waiting passively costs nothing. Read once, when libgomp is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
