"""A reader study: physicians judge blinded cases without and with the model's explanation, and what came of it."""
