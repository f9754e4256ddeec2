"""`python -m pvf`."""

from pvf.cli import main

if __name__ == "__main__":
    main()
