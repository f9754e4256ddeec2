"""Figures that the README and docs name. Each script ends with one JSON object on its last line."""
