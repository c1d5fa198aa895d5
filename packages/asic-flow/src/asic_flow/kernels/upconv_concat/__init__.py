"""A U-Net's step up: twice the resolution by a transposed convolution, joined to what was passed across."""
