"""Photos in; descriptors, foreground masks and matches out. Importing it loads neither torch nor timm."""
