"""What pages that this project serves on 127.0.0.1 have in common: being served, logging in, headers for browsers."""
