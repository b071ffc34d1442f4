"""The model that MLflow serves: feature rows in, forecasts out; loaded from code, never from a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import polars as pl

from oihedge.forecast.load import load


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Wraps a saved forecaster; time stamps are naive UTC at this border, which MLflow's schemas need."""

    def load_context(self, context: Any) -> None:
        """Load the saved model, checking every file against its digest."""
        self._model = load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Forecast at the newest instant that the rows allow.

        Args:
            context: unused; MLflow passes it.
            model_input: feature rows as for FittedModel.predict: history up to an instant and the hours ahead with
                their known columns, `ts` naive UTC.
            params: unused; MLflow passes it.

        Returns:
            The forecast rows of FittedModel.predict at that instant, `ts` naive UTC.
        """
        rows = pl.from_pandas(model_input).with_columns(
            pl.col("ts").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        )
        forecasts = self._model.predict(rows).filter(pl.col("ts") == pl.col("ts").max())
        return forecasts.with_columns(pl.col("ts").dt.replace_time_zone(None)).to_pandas()


mlflow.models.set_model(ServedModel())
