"""How fast this machine works: what ``lmdbench bench`` measures, and the targets it is held to."""
