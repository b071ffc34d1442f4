"""Runs, models, aliases, ledger, rollback; the only door to mlflow."""
