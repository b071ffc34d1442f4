"""Windows, forecasters, training and prediction; the only door to torch, lightning and pytorch_forecasting."""
