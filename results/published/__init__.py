"""Numbers that papers print, as data: read by ``lmdbench.reporting.published``."""
