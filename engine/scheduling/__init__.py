"""Which step comes next: pure Python, no torch, so that scheduling alone can be searched quickly."""
