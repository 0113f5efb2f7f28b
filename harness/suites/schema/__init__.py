"""The format of suite files, as pydantic models. docs/writing-cases.md describes the format.

Validation is strict. For example, ``max_tokens: "5"`` is an error, and so is ``id: yes``, which YAML reads as true.
Validators check constraints between several fields. Their messages have one line.
"""

from harness.suites.schema.actions import (
    Action,
    Call,
    Chat,
    Check,
    Flood,
    RawHttp,
    ServerMetrics,
    StreamCall,
    Wait,
)
from harness.suites.schema.base import (
    MarkerName,
    MisfitError,
    Model,
    RequirementId,
    Slug,
    SuiteName,
    keys_of,
    one_or_many,
)
from harness.suites.schema.cases import BehaviourCase, Case, OutputCase, ServerOptions, StepsCase
from harness.suites.schema.expect import OutputExpectation, StepsExpectation, StepTable
from harness.suites.schema.fields import MARGIN, Expected, Joined, Near, OffsetsOf, SameAs
from harness.suites.schema.happens import EVENT_NAMES, EventName, Happening
from harness.suites.schema.outcome import Outcome, StepBounds
from harness.suites.schema.policy import POLICY_NAMES, Policy, by_name
from harness.suites.schema.prompts import FOLDER, Prompt
from harness.suites.schema.requests import Chunking, Limits, Options, Request, TokenBudget
from harness.suites.schema.schedulers import (
    CHUNKED_COLUMNS,
    COLUMNS,
    FORMATS,
    OPTION_KEYS,
    TOKEN_BUDGET_COLUMNS,
    Scheduler,
    SchedulerFormat,
    columns_of_cells,
    decodes_on,
    example_of_row,
    format_of_row,
)
from harness.suites.schema.suites import MODELS_OF_THE_RUN, AnySuite, BehaviourSuite, OutputSuite, StepsSuite, Suite

__all__ = [
    "CHUNKED_COLUMNS",
    "COLUMNS",
    "EVENT_NAMES",
    "FOLDER",
    "FORMATS",
    "MARGIN",
    "MODELS_OF_THE_RUN",
    "OPTION_KEYS",
    "POLICY_NAMES",
    "TOKEN_BUDGET_COLUMNS",
    "Action",
    "AnySuite",
    "BehaviourCase",
    "BehaviourSuite",
    "Call",
    "Case",
    "Chat",
    "Check",
    "Chunking",
    "EventName",
    "Expected",
    "Flood",
    "Happening",
    "Joined",
    "Limits",
    "MarkerName",
    "MisfitError",
    "Model",
    "Near",
    "OffsetsOf",
    "Options",
    "Outcome",
    "OutputCase",
    "OutputExpectation",
    "OutputSuite",
    "Policy",
    "Prompt",
    "RawHttp",
    "Request",
    "RequirementId",
    "SameAs",
    "Scheduler",
    "SchedulerFormat",
    "ServerMetrics",
    "ServerOptions",
    "Slug",
    "StepBounds",
    "StepTable",
    "StepsCase",
    "StepsExpectation",
    "StepsSuite",
    "StreamCall",
    "Suite",
    "SuiteName",
    "TokenBudget",
    "Wait",
    "by_name",
    "columns_of_cells",
    "decodes_on",
    "example_of_row",
    "format_of_row",
    "keys_of",
    "one_or_many",
]
