"""How good a forecast is: metrics, baselines, backtest, champion comparison, report."""
