"""Look up reference outputs in files or in a cache, or compute them with Hugging Face.

The files are next to the suites, in ``expectations/references``. Only ``spyre-cb references`` and ``--cb-bless`` write
them. Computed references are stored in the cache, which is local to this machine.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from checkpoints import Checkpoint, cache_folder
from harness.references import compute
from harness.references.files import ReferenceFileError, read_references, write_references
from harness.references.values import TOP, Reference, ReferenceMissingError, Wanted
from harness.types import Structure

Decode = Callable[[tuple[int, ...]], str]


@dataclass
class Oracle:
    """Provides reference outputs.

    If ``may_compute`` is False, as in CI, reference outputs are only read from the files next to the suites. It is then
    an error if a reference output is missing. Otherwise a damaged file is ignored, and ``damaged`` gets a sentence
    that names it and says what is wrong.
    """

    may_compute: bool = True
    damaged: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], Reference] = field(default_factory=dict)

    def references(
        self,
        checkpoint: Checkpoint,
        wanted: Sequence[Wanted],
        file: Path | None = None,
        names: Sequence[str] | None = None,
    ) -> list[Reference]:
        """Return the reference for each entry of ``wanted``.

        ``file`` is the path of the file with the case's reference outputs, which need not exist. ``names`` are what the
        message about missing references calls the entries of ``wanted``; with None, they are request 0, request 1, ….
        If ``may_compute`` is True, references that are not in the file are computed. If ``may_compute`` is False, this
        raises ReferenceMissingError for missing references, and ReferenceFileError if the file is damaged.
        """
        found = self.on_file(checkpoint, wanted, file)
        missing = [i for i, reference in enumerate(found) if reference is None]
        if missing and not self.may_compute:
            named = [f"request {i}" if names is None else names[i] for i in missing]
            raise ReferenceMissingError(_missing_sentence(named, checkpoint, file))
        computed = self.computed(checkpoint, [wanted[i] for i in missing]) if missing else []
        by_place = dict(zip(missing, computed, strict=True))
        pairs = zip(found, wanted, strict=True)
        return [(by_place[i] if r is None else r).upto(w.max_tokens) for i, (r, w) in enumerate(pairs)]

    def on_file(self, checkpoint: Checkpoint, wanted: Sequence[Wanted], file: Path | None) -> list[Reference | None]:
        """Return the references in the file, in the order of ``wanted``.

        An entry of the result is None if the file does not have the reference, or if the file is of another model. If
        ``may_compute`` is False, this raises ReferenceFileError if the file is damaged.
        """
        try:
            held = read_references(file) if file is not None else None
        except ReferenceFileError as error:
            if not self.may_compute:
                raise
            self.damaged.append(str(error))
            held = None
        if held is None or held.model_digest != checkpoint.digest:
            return [None] * len(wanted)
        return [_if_it_answers(held.by_key.get(each.key), each) for each in wanted]

    def holds(self, file: Path, checkpoint: Checkpoint, wanted: Sequence[Wanted]) -> bool:
        """Return whether the file has a reference for each entry of ``wanted``, and no other references."""
        try:
            held = read_references(file)
        except ReferenceFileError:
            return False
        if held is None or held.model_digest != checkpoint.digest or set(held.by_key) != {w.key for w in wanted}:
            return False
        return all(held.by_key[each.key].answers(each) for each in wanted)

    def computed(
        self, checkpoint: Checkpoint, wanted: Sequence[Wanted], progress: compute.Progress | None = None
    ) -> list[Reference]:
        """Return the reference for each entry of ``wanted``, from memory or from the cache on this machine.

        References that are in neither are computed and stored in both.
        """
        found = [self._recall(checkpoint, each) for each in wanted]
        missing = [i for i, reference in enumerate(found) if reference is None]
        if progress and len(missing) < len(wanted):
            progress(len(wanted) - len(missing))
        new = compute.continuations(checkpoint, [wanted[i] for i in missing], progress) if missing else []
        for i, reference in zip(missing, new, strict=True):
            found[i] = reference
            self._remember(checkpoint, wanted[i], reference)
        return [reference for reference in found if reference is not None]

    def scored(
        self,
        checkpoint: Checkpoint,
        prompt: tuple[int, ...],
        token_ids: tuple[int, ...],
        structure: Structure | None = None,
    ) -> Reference:
        """Run the reference model on tokens that an engine generated, and return their logprobs.

        ``structure`` is the constraint that the tokens must satisfy, None if there is none. Raises
        ReferenceMissingError if ``may_compute`` is False: files of references have only logprobs of the reference's own
        tokens, so the model would have to run.
        """
        if not self.may_compute:
            what = "the engine's tokens differ from the reference's, so Hugging Face must compute their logprobs"
            raise ReferenceMissingError(f"{what}; to allow this, use --cb-references compute")
        return compute.scored(checkpoint, prompt, token_ids, TOP, structure)

    def _recall(self, checkpoint: Checkpoint, wanted: Wanted) -> Reference | None:
        known = _if_it_answers(self._known.get((checkpoint.digest, wanted.key)), wanted)
        if known is None:
            try:
                held = read_references(_in_cache(checkpoint, wanted))
            except ReferenceFileError:
                held = None
            known = _if_it_answers(held.by_key.get(wanted.key) if held else None, wanted)
        if known is not None:
            self._known[checkpoint.digest, wanted.key] = known
        return known

    def _remember(self, checkpoint: Checkpoint, wanted: Wanted, reference: Reference) -> None:
        self._known[checkpoint.digest, wanted.key] = reference
        with suppress(OSError):  # If the cache can't be written, the next run computes the reference again.
            write_references(_in_cache(checkpoint, wanted), checkpoint, [(wanted, reference)], [""], made_with())


def made_with() -> str:
    """Return a text for files of reference outputs that says with which packages and precision they were computed."""
    return f"transformers {version('transformers')}, torch {version('torch')}, float32 on CPU, greedy"


def _if_it_answers(reference: Reference | None, wanted: Wanted) -> Reference | None:
    return reference if reference is not None and reference.answers(wanted) else None


def _in_cache(checkpoint: Checkpoint, wanted: Wanted) -> Path:
    return cache_folder() / "references" / checkpoint.digest[:32] / f"{wanted.key[:32]}.json"


def _missing_sentence(names: Sequence[str], checkpoint: Checkpoint, file: Path | None) -> str:
    which = ", ".join(dict.fromkeys(names))  # A request with several answers is named once.
    stale = file is not None and file.is_file()
    where = f"{file} does not have it" if stale else f"{file} does not exist"
    return f"no reference output of {checkpoint.name} for {which}: {where}"
