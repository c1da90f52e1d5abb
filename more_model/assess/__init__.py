"""What the model says about one patient, and whether it should say anything."""
