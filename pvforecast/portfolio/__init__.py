"""Joint forecasts of several parks: scenarios that hold each park's quantiles and the dependence between parks.

    dependence   how forecast errors go together: what a bundle carries; light, serving imports it
    fitting      learns a dependence from forecasts that were made without their truth
    marginals    a park's quantiles as a whole distribution
    scenarios    joint scenarios, and the quantiles of their sum
    served       from the service's answers to the forecast of their sum

docs/portfolio.md says how and how well.
"""

from pvforecast.portfolio.dependence import Dependence

__all__ = ["Dependence"]
