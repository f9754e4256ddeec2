"""The retrain trigger: turns drift events into training runs, one at a time, and remembers which event led where."""
