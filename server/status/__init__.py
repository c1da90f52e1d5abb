"""What a coordinator can see of its federation: the model of it, the page, the metrics."""
