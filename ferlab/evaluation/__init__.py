"""How accurate a model is, how well calibrated, and what it costs to run."""
