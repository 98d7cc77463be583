"""The linear model that is left of one prompt when patterns, denominators and switches are held.

Gradients are carried down it (`descent`), what sources wrote is carried up it (`ascent`), one block
at a time (`block`). `attribution` asks it for rows, heads and scores; nothing else does.
"""
