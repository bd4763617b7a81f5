"""From references and predictions to numbers with intervals."""
