"""The base class of request bodies, and ``Text``, the type of their string fields, which accepts strings only."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(strict=True)]


class Body(BaseModel):
    """The base class of request bodies. Types are strict, and unknown fields are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
