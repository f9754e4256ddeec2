"""A stand-in for Open-Meteo, for tests and replays: the shapes, limits and errors of the real one, invented weather."""
