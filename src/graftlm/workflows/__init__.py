"""One file per verb; each reads like the story of that verb."""
