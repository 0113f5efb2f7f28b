"""Explanations of the terms of step tables and comparisons, shown on the page."""

WORDS = (
    (
        "prefill, decode",
        "A step computes a prompt, or a chunk of it, or one more token of the requests that run.",
    ),
    (
        "tkv",
        "Length of the batch in the cache, padding included, in tokens; in chunked prefill the largest there is.",
    ),
    (
        "block",
        "64 tokens of the KV cache. Reserved blocks are kept for running requests; used blocks hold tokens.",
    ),
    ("batch x tkv", "Batch size times tkv; the device is compiled for max_batch_tkv_limit of it at most."),
    ("left padding", "Columns before a prompt that is shorter than tkv; whole blocks of it are never held."),
    ("a ≠ b", "Observed a, expected b. In front of a row of a step table, > marks where the two differ."),
    ("invariant", "A property of every step of any run, whatever the expected table."),
    ("margin", "How far, in logprob, the reference's best token is ahead of its second best."),
    (
        "golden tokens",
        "Tokens of the reference that the engine returns instead of its own, to compare all positions.",
    ),
    ("tp2, seqs4", "In the name of a configuration: tensor parallel size 2; a largest batch of 4."),
)
