"""Search among stored studies: a text, an X-ray or an ECG finds the studies that the model places nearest."""
