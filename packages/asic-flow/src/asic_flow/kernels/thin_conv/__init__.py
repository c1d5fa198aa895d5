"""Convolutions at a U-Net's full resolution, where channels are few: from images, between thin signals, to a field."""
