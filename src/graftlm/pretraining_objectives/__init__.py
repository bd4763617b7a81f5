"""What a base model learns from raw text, one objective a file."""
