"""Parts of `make bench NAME=serving`."""
