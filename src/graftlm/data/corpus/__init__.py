"""From raw text of any size to memory-mapped tokens: documents, sentences, duplicates, a held-out part, shards."""
