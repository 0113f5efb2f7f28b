"""Much text in little room, for a page that unpacks it by itself: JSON, gzipped, in base64."""

import base64
import gzip
import json
from collections.abc import Mapping


def packed(texts: Mapping[str, str]) -> str:
    """The texts by name. Half a surrogate pair, which no encoding takes, is escaped."""
    data = json.dumps(texts, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
    return base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode("ascii")
