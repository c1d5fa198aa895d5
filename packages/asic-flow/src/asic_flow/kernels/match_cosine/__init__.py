"""Cosine matching of descriptor sets: best partners and mutual pairs without the similarity matrix."""
