"""Maps a collection of images into one canonical space."""
