"""The base of every settings class and the value types they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from oihedge.core.clock import require_utc

Instant = Annotated[AwareDatetime, AfterValidator(lambda value: require_utc(value, "setting"))]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Hours = Annotated[int, Field(ge=1, le=87_600)]
"""At most ten years, as `Days`: an instant that far from any that is worked at is still a date."""
Days = Annotated[int, Field(ge=1, le=3_650)]


class Settings(BaseModel):
    """Base of every settings group: frozen, no unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
