"""Compress texts for a page that unpacks them itself: JSON, gzipped, in base64."""

import base64
import gzip
import json
from collections.abc import Mapping


def packed(texts: Mapping[str, str]) -> str:
    """Return the texts by name, compressed. Halves of surrogate pairs, which can't be encoded, are escaped."""
    data = json.dumps(texts, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
    return base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode("ascii")
