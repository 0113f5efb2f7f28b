"""The terms that the HTML page of a run explains, with their explanations."""

WORDS = (
    (
        "prefill, decode",
        "A step computes a prompt or a chunk of it (prefill), or one more token of each running request (decode).",
    ),
    (
        "tkv",
        "Length of the batch in the KV cache in tokens, including padding. With chunked prefill: the largest tkv of a "
        "request.",
    ),
    (
        "block",
        "64 tokens of the KV cache, if a case sets no other block_size. Reserved blocks are set aside for running "
        "requests; used blocks hold tokens.",
    ),
    ("batch x tkv", "Batch size times tkv. It must not exceed max_batch_tkv_limit, for which the device is compiled."),
    (
        "left padding",
        "Positions before a prompt that is shorter than tkv. Whole blocks of padding use no blocks of the KV cache.",
    ),
    ("a ≠ b", "Observed a, expected b. In a step table, > marks the rows in which the two differ."),
    ("invariant", "A property that every step of every run must have, whatever table the case expects."),
    ("margin", "The logprob of the reference's best token minus that of its second-best token."),
    (
        "golden tokens",
        "Tokens of the reference that the engine is forced to generate, so that all positions can be compared.",
    ),
    ("tp2, seqs4", "In the name of a configuration: tensor_parallel_size 2, and max_num_seqs 4."),
)
