"""Compress strings for an HTML page, whose script unpacks them. The format is gzipped JSON in base64."""

import base64
import gzip
import json
from collections.abc import Mapping


def packed(texts: Mapping[str, str]) -> str:
    """Return a dict of strings as gzipped JSON in base64. Lone surrogates, which can't be encoded, are escaped."""
    data = json.dumps(texts, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
    return base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode("ascii")
