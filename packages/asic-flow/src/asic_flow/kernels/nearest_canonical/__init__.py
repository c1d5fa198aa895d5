"""Look-up of canonical points in the canonical maps of images, sub-pixel, with a confidence."""
