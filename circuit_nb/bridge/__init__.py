"""TransformerLens's bridge as it is used here: opened, run by passes that leave nothing behind."""
