"""One module a benchmark: what its annotation files hold, and how they are read without decoding an image."""
