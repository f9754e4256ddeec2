"""`pvf run`: the whole path once, on real data: load, train, serve, check bit equality, backtest, and around the loop."""
