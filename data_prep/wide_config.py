"""Configuration of the wide part, a linear model on n-grams next to the recurrent model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from celltune.data_prep.types import shown

Penalty = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


LONGEST_WORDS, LONGEST_CHARACTERS = 5, 10
"""Largest lengths of n-grams of words and of characters."""


class WideConfig(BaseModel):
    """A linear model on the n-grams of words and characters of the whole, untruncated text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    words: Annotated[int, Field(strict=True, ge=1, le=LONGEST_WORDS)] = 3
    """Largest number of adjacent words and punctuation marks in an n-gram."""

    characters: Annotated[int, Field(strict=True, ge=0, le=LONGEST_CHARACTERS)] = 5
    """Largest number of adjacent characters in an n-gram within a word; the smallest is 2. 0 for no
    n-grams of characters."""

    min_documents: Annotated[int, Field(strict=True, ge=1)] = 2
    """Rarer n-grams, by the number of training documents that contain them, are left out."""

    penalties: tuple[Penalty, ...] = (3, 10, 30, 100, 300)
    """Candidates for scikit-learn's C, the inverse strength of the L2 penalty. The search starts
    with the middle one and goes on as long as the validation loss falls."""

    folds: Annotated[int, Field(strict=True, ge=2, le=20)] = 5
    """Number of parts of the training split. The outputs of each part come from a model of the
    other parts."""

    @field_validator("characters")
    @classmethod
    def _check_characters(cls, value: int) -> int:
        if value == 1:
            raise ValueError(
                "data.wide.characters is 1, but the smallest n-grams have 2 characters. Set it to "
                "0 for no n-grams of characters, or to 2 to 10."
            )
        return value

    @field_validator("penalties")
    @classmethod
    def _check_penalties(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(
                f"data.wide.penalties is {shown(list(value))}. It has to contain at least "
                f"one number, and no number twice, such as [3, 10, 30, 100, 300]."
            )
        return value
