"""Building blocks of request bodies."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(strict=True)]


class Body(BaseModel):
    """The base class of bodies: strict types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
