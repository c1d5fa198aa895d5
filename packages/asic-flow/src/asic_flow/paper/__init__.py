"""The published recipe, its faults mended: a U-Net and a learnable canonical image, trained on one collection."""
