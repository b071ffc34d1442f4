"""Expectations per table and the verdict on rows; the only door to great_expectations."""
