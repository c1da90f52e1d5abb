"""A synthetic, MIMIC-shaped cohort: patients with findings that agree in picture, tracing and words."""
