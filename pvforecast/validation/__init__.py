"""Contracts of delivered rows: the good ones go on, the bad ones are named and set aside.

levels      every check with its level, in one table
contract    what rows of a table must look like before any of them is stored
generation  metered power against the sun and the park
weather     weather against the sun
season      what a park delivers against its own year
report      what one load passed on and set aside, for people and for machines
"""

from pvforecast.validation.contract import accept
from pvforecast.validation.generation import check_generation
from pvforecast.validation.weather import check_weather

__all__ = ["accept", "check_generation", "check_weather"]
