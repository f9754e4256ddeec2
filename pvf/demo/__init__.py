"""`pvf run`: the whole path once on real data: load, train, serve, compare bits, backtest, around the loop."""
