"""Signals, tiers, sizing, limits, targets: pure functions."""
