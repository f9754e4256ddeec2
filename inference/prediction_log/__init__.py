"""Each served forecast as a pair of CloudEvents, stored in Postgres, rebuildable bit for bit."""
