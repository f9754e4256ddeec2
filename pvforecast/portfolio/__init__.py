"""Joint forecasts of several parks: scenarios that hold each park's quantiles and the dependence between parks.

`fitting.fit` learns a `Dependence` from forecasts that were made without their truth; serving only reads it:
`scenarios.scenarios` and `scenarios.aggregate`. docs/portfolio.md says how and how well.
"""

from pvforecast.portfolio.dependence import Dependence
from pvforecast.portfolio.fitting import fit
from pvforecast.portfolio.scenarios import Member, aggregate, energy, scenarios

__all__ = ["Dependence", "Member", "aggregate", "energy", "fit", "scenarios"]
