"""How the embedded model was made and is measured; nothing else in the library imports this."""
