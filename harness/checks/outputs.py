"""Compare the outputs of a case with those of the reference.

``prepare_outputs`` looks up the reference outputs before the run, and ``check_outputs`` compares after the run.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from checkpoints import Checkpoint
from harness.checks.output import check_output
from harness.checks.output.policies import ResolvedPolicy, precision_of, resolve_policy
from harness.golden.tables import reference_path
from harness.references import Oracle, Reference, Wanted
from harness.references.stopping import ended, wanted_for
from harness.references.values import widened
from harness.suites.expand import Expanded
from harness.suites.prompts import Vocabulary, model_of_run, vocabulary_of
from harness.suites.schema import OutputCase, Policy, StepsCase
from harness.types import RequestSpec, Run, Verdict

TOP_SHOWN = 3
TOP_COMPARED = 20
"""Number of top tokens to request for the policy ``golden``, vLLM's maximum. Other policies request ``TOP_SHOWN``."""


@dataclass(frozen=True)
class Comparison:
    """The reference outputs of a case, and the policy for comparing the engine's outputs with them.

    ``wanted`` and ``references`` have one entry for each request: ``wanted`` says which output Hugging Face has to
    compute, and ``references`` has this output. A reference may have more tokens than ``max_tokens`` of its request.
    ``file`` is the path of the file for the reference outputs, which may not exist yet.
    """

    policy: ResolvedPolicy
    wanted: tuple[Wanted, ...]
    references: tuple[Reference, ...]
    checkpoint: Checkpoint
    vocabulary: Vocabulary
    oracle: Oracle
    file: Path


def requested_policy(expanded: Expanded, of_the_run: Policy | None) -> Policy | None:
    """Return the policy that is named for comparing the outputs of a case, None if none is named.

    A policy can be named in the suite's parameters, in the case, and on the command line (``of_the_run``). The first of
    these three places that names a policy applies.
    """
    named = expanded.configuration.policy
    if named is not None:
        return Policy.model_validate({"name": named})
    return getattr(expanded.case.expect, "policy", None) or of_the_run  # type: ignore[attr-defined]


def prepare_outputs(
    expanded: Expanded,
    case: StepsCase | OutputCase,
    specs: Sequence[RequestSpec],
    capabilities: Collection[str],
    oracle: Oracle,
    suite_path: Path,
    policy: Policy | None,
) -> tuple[tuple[RequestSpec, ...], Comparison | None]:
    """Look up the reference outputs of a case. Return (the requests to send to the engine, the Comparison).

    The returned requests are ``specs`` with the fields that the policy needs: the number of logprobs and, for the
    policy ``golden``, the golden tokens. If the case does not compare its outputs, the requests are ``specs``, and None
    is returned in place of the Comparison. Raises CheckpointError if the model is not available, ReferenceMissingError
    if a reference output is missing and must not be computed, and ReferenceFileError if the file is damaged.
    """
    if case.expect.output != "reference":
        return tuple(specs), None
    configuration = expanded.configuration
    checkpoint = model_of_run(configuration.model)
    vocabulary = vocabulary_of(checkpoint)
    resolved = resolve_policy(
        requested_policy(expanded, policy), precision_of(configuration.backend, checkpoint), capabilities
    )
    wanted = widened([wanted_for(spec, vocabulary) for spec in specs])
    file = reference_path(suite_path, case.id, checkpoint.label)
    found = tuple(oracle.references(checkpoint, wanted, file))
    comparison = Comparison(resolved, wanted, found, checkpoint, vocabulary, oracle, file)
    triples = zip(specs, case.requests, found, strict=True)
    made = tuple(_as_run(spec, request.logprobs, reference, comparison) for spec, request, reference in triples)
    return made, comparison


def _as_run(spec: RequestSpec, logprobs: int | None, reference: Reference, comparison: Comparison) -> RequestSpec:
    golden = comparison.policy.name == "golden"
    default = TOP_COMPARED if golden else TOP_SHOWN
    spec = replace(spec, logprobs=default if logprobs is None else logprobs)
    if not golden:
        return spec
    return replace(spec, golden_token_ids=ended(reference, spec, comparison.vocabulary).token_ids)


def check_outputs(
    comparison: Comparison | None,
    specs: Sequence[RequestSpec],
    case: StepsCase | OutputCase,
    run: Run,
    max_model_len: int | None,
) -> list[Verdict]:
    """Compare each request's output with its reference. Return a verdict for each comparison.

    There is also a failed verdict for each request whose ``simulated_tokens`` in the case differ from the engine's
    tokens. If ``comparison`` is None, only ``simulated_tokens`` are checked. ``max_model_len`` is the effective limit
    of the context in tokens, at which a request can end before ``max_tokens``; None if it is not known.
    """
    specs = [spec.within(max_model_len) for spec in specs]
    verdicts = _against_reference(comparison, specs, case, run) if comparison else []
    verdicts += _simulated_tokens(specs, case, run)
    return verdicts


def _against_reference(
    comparison: Comparison, specs: Sequence[RequestSpec], case: StepsCase | OutputCase, run: Run
) -> list[Verdict]:
    return [
        check_output(
            spec,
            tokens,
            reference,
            comparison.policy,
            comparison.vocabulary,
            oracle=comparison.oracle,
            checkpoint=comparison.checkpoint,
            aborted=request.abort_step is not None,
            alternatives=request.logprobs,
        )
        for spec, request, tokens, reference in zip(
            specs, case.requests, run.tokens, comparison.references, strict=True
        )
    ]


def _simulated_tokens(specs: Sequence[RequestSpec], case: StepsCase | OutputCase, run: Run) -> list[Verdict]:
    """Return a failed verdict for each request whose ``simulated_tokens`` in the case differ from the engine's tokens.

    Requests whose tokens were simulated in this run are not checked, because the engine did not run a model for them.
    """
    wrong = []
    for spec, request, tokens in zip(specs, case.requests, run.tokens, strict=True):
        seen = tuple(token.token_id for token in tokens)
        given = request.simulated_tokens
        if given and not spec.simulated_token_ids and given[: len(seen)] != seen:
            details = (f"suite: {list(given)}", f"model: {list(seen)}")
            headline = f"request {spec.request_id}: simulated_tokens are not the tokens that the model generates"
            wrong.append(Verdict(False, headline, details))
    return wrong
