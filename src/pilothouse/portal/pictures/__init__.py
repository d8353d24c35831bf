"""Pictures as SVG, made in Python: the same values give the same bytes, and nothing in them needs a script."""
