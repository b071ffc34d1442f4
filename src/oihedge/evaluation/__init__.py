"""Scores, walk-forward, hedge backtest, gates, figures and report."""
