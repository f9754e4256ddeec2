"""Sets up what the project needs to run and to be tested.

Standard library only: it runs before anything is installed.
"""
