"""Attacks as tests: what a claim of privacy survives, and what an update gives away."""
